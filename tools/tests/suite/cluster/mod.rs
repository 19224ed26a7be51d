//! Clusters: nothing acknowledged is lost and nothing stale is served, whatever is broken.
//!
//! A [`Load`](load::Load) writes and reads all the while, through all members, and knows what each read must see at least.
//! What it finds wrong fails the test at its end.

mod catch_up;
mod damage;
mod failures;
mod leases;
mod load;
mod members;
mod partitions;
mod services;
mod starts;
