//! Disks that can be filled: small ext4 file systems, each in a file of its own.
//!
//! They need root and a kernel that allows mounting on loop devices.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use super::run;

/// The file that takes the room.
const BALLAST: &str = "ballast";

/// A file system, unmounted when dropped. Its file is left to whoever made the directory.
#[derive(Debug)]
pub struct Disk {
    mount: PathBuf,
}

impl Disk {
    /// Makes one of so many bytes, in the files `name.img` and `name` of a directory. The error is the reason why this
    /// user or kernel cannot.
    pub fn mount(directory: &Path, name: &str, bytes: u64) -> Result<Disk, String> {
        let image = directory.join(format!("{name}.img"));
        let mount = directory.join(name);
        std::fs::create_dir(&mount).map_err(|error| error.to_string())?;
        let file = File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(bytes).map_err(|error| error.to_string())?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mount))?;
        Ok(Disk { mount })
    }

    /// Where its files are.
    pub fn path(&self) -> &Path {
        &self.mount
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(&self.mount)) {
            eprintln!("{error}");
        }
    }
}

/// Takes all room of the file system at `mount` but `bytes_left`.
pub fn fill(mount: &Path, bytes_left: u64) -> Result<(), String> {
    let ballast = mount.join(BALLAST);
    let file = File::create(&ballast).map_err(|error| format!("{}: {error}", ballast.display()))?;
    let failed = |errno: Errno| format!("{}: {errno}", ballast.display());
    // Others write meanwhile, so what was free a moment ago may be taken.
    loop {
        let statistics = statvfs(mount).map_err(failed)?;
        let free = statistics.f_bavail * statistics.f_frsize;
        if free <= bytes_left {
            return Ok(());
        }
        match fallocate(&file, FallocateFlags::empty(), 0, free - bytes_left) {
            Ok(()) => return Ok(()),
            Err(Errno::NOSPC) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
}

/// Gives the room back.
pub fn free(mount: &Path) -> Result<(), String> {
    std::fs::remove_file(mount.join(BALLAST)).map_err(|error| error.to_string())
}
