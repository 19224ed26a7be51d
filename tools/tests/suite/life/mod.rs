//! A server's life from outside: how it starts or refuses to, what it says over HTTP, how it stops, a full disk, too little memory.

mod auto_compaction;
mod endpoints;
mod full_disk;
mod memory_limit;
mod range_stream;
mod start;
mod stop;
