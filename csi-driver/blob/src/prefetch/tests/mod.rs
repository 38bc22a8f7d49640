mod any;
mod epochs;
mod simulator;
mod traces;
