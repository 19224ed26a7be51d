//! `torture` itself: a short run of it, faults of all kinds that fit, and its judges find nothing wrong.

use std::process::Command;

use crate::harness::{Program, only_urd};

/// The exit code with which it says that the stage cannot be set up here.
const CANNOT: i32 = 3;

#[test]
fn a_short_run_finds_nothing_wrong() {
    if only_urd("it starts members with flags of Urd's") {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("passed over: only root makes network namespaces");
        return;
    }
    let directory = crate::harness::scratch_directory();
    let output = Command::new(env!("CARGO_BIN_EXE_torture"))
        .args(["--seconds", "25", "--urd"])
        .arg(Program::Subject.path())
        // A history would be written here.
        .current_dir(directory.path())
        .output()
        .expect("run torture");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    println!("{stdout}\n{stderr}");
    if output.status.code() == Some(CANNOT) {
        println!("passed over: namespaces cannot be made here");
        return;
    }
    assert!(output.status.success(), "torture ended with {}", output.status);
    assert!(stdout.contains("right: "), "it judged nothing");
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    if only_urd("it starts members with flags of Urd's") {
        return;
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_torture"))
        .args(["--seconds", "600", "--urd"])
        .arg(Program::Subject.path())
        .spawn()
        .expect("run torture");
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a child's id is not 0");
    let stage = || {
        let arguments = processes().filter(|(_, line)| line.contains("--stage"));
        // The inner run is in the group that the signal below is not for.
        arguments.filter(|(parent, _)| *parent == child.id()).map(|(_, line)| line).next()
    };
    let found = crate::harness::try_wait_for(crate::harness::READY_TIMEOUT, stage);
    let Some(line) = found else {
        child.kill().expect("kill our child");
        child.wait().expect("wait for our child");
        println!("passed over: no stage could be set up");
        return;
    };
    let directory = line.split('\0').skip_while(|word| *word != "--stage").nth(1);
    let directory = directory.expect("the stage is named").to_owned();
    let members = || processes().filter(|(_, line)| line.contains(&directory)).count();
    let running = crate::harness::try_wait_for(crate::harness::READY_TIMEOUT, || {
        // The inner run itself, and three members.
        (members() >= 4).then_some(())
    });
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signal our child");
    child.wait().expect("wait for our child");
    assert!(running.is_some(), "the members did not come up");
    assert_eq!(members(), 0, "processes are left");
    let namespaces = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let own = format!("urd-torture-{}-", child.id());
    let left: Vec<_> = namespaces
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(&own))
        .collect();
    assert_eq!(left, Vec::<String>::new(), "namespaces are left");
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("read the mounts");
    assert!(!mounts.contains(&directory), "mounts are left: {mounts}");
    assert!(!std::path::Path::new(&directory).exists(), "{directory} is left");
}

/// Each process's parent and command line, whose words end in zero bytes.
fn processes() -> impl Iterator<Item = (u32, String)> {
    let all = std::fs::read_dir("/proc").expect("list the processes").flatten();
    all.filter_map(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        Some((parent, String::from_utf8_lossy(&line).into_owned()))
    })
}
