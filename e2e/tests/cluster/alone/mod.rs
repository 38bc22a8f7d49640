//! What restarts or removes the node process, or counts mounts: no other test may run beside these.

mod chart;
mod kubelet;
mod outage;
mod processes;
mod reading;
mod readme;
mod restart;
mod upgrade;
