//! What goes wrong between the operator and its API server: the operator dies at any step, two run at once, a watch has lost its place.

mod crash;
mod life;
mod process;
mod two;
mod watch;
