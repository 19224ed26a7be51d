//! Whether the linker really puts the crate before glommio's liburing: an executor's main ring is a cooperative one.

use std::time::Duration;

#[test]
fn an_executors_main_ring_is_cooperative_and_its_timers_go() {
    let executor = glommio::LocalExecutorBuilder::default().make().expect("io_uring is available");
    assert_eq!(urd_rings::is_cooperative(), kernel_knows_the_flag());
    executor.run(async {
        glommio::timer::sleep(Duration::from_millis(1)).await;
        // A task that never waits is told when its time is up, though it does not enter the kernel.
        while !glommio::executor().need_preempt() {
            std::hint::spin_loop();
        }
    });
}

/// Linux 5.19 has it.
fn kernel_knows_the_flag() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(5), Some(19))
}
