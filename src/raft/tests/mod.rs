//! The driver on disks in memory: alone, and in groups that a script or a seed leads through trouble.

mod alone;
mod chaos;
mod elections;
mod group;
mod scripts;
mod strange;
