//! Valid histories pass; each judge objects to one that is spoiled for it.

mod generator;
mod histories;
mod models;
mod watches;
