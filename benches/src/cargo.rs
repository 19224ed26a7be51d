//! Finding what is to be measured, or building it, in its own optimised form.

use crate::children::Guarded;
use crate::server::Program;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A release build with whole-program optimisation takes its time; more than this is broken.
const BUILD_TIMEOUT: Duration = Duration::from_secs(3600);

/// The repository that this program was built from.
pub fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// Where its builds go.
pub fn target_directory() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => directory.into(),
        None => repository().join("target"),
    }
}

/// Builds `binary` of `package` in the workspace at `workspace`, and says where it is.
pub fn build(workspace: &Path, target: &Path, package: &str, binary: &str) -> io::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--release", "--locked", "--quiet", "--package", package, "--bin", binary])
        .current_dir(workspace)
        .env("CARGO_TARGET_DIR", target);
    eprintln!("building {binary} in {} ...", workspace.display());
    run(&mut command, BUILD_TIMEOUT)?;
    Ok(target.join("release").join(binary))
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command, timeout: Duration) -> io::Result<()> {
    let mut child = Guarded::spawn(command)?;
    let failed = |what: String| io::Error::other(format!("{command:?} {what}"));
    match child.wait(timeout)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(format!("failed: {status}"))),
        None => Err(failed(format!("is not done after {timeout:?}"))),
    }
}

/// A program that is there, by its path or by its name on the search path.
pub fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_path_buf());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|p| p.is_file())
}

/// etcd at `path`, which may be a name on the search path.
pub fn etcd(path: &Path) -> io::Result<Program> {
    let found = find(path).ok_or_else(|| {
        let path = path.display();
        let advice = "apt-get install etcd-server, or give --etcd PATH";
        io::Error::new(io::ErrorKind::NotFound, format!("there is no etcd at {path}: {advice}"))
    })?;
    Ok(Program { name: "etcd".into(), path: found })
}

/// Urd at `path`, or else built from the working tree.
pub fn urd(path: Option<&Path>) -> io::Result<Program> {
    let path = match path {
        Some(path) => path.into(),
        None => build(&repository(), &target_directory(), "urd", "urd")?,
    };
    Ok(Program { name: "Urd".into(), path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name_and_by_path() {
        let shell = find(Path::new("sh")).unwrap();
        assert_eq!(find(&shell), Some(shell));
        assert_eq!(find(Path::new("no-such-program")), None);
        assert_eq!(find(Path::new("./no-such-program")), None);
    }

    #[test]
    fn repository_is_the_workspace() {
        assert!(repository().join("Cargo.lock").is_file());
    }

    #[test]
    fn failures_name_the_command() {
        let error = run(&mut Command::new("false"), Duration::from_secs(10)).unwrap_err();
        assert!(error.to_string().contains("false"), "{error}");
    }
}
