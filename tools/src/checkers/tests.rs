//! Valid histories pass; each judge objects to one that is spoiled for it.

mod generator;
mod histories;
mod leases;
mod models;
mod watches;
