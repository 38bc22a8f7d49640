mod epochs;
mod simulator;
mod traces;
