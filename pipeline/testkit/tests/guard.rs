//! Nothing the testkit starts outlives the process that started it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sluice_testkit::{ChildProcess, OwnKafka, eventually};

/// Where the holder, a process of its own, tells the pids of what it started.
const HOLDER: &str = "SLUICE_TESTKIT_HOLDER";

fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

fn sh(script: &str) -> ChildProcess {
    ChildProcess::builder("/bin/sh").args(["-c", script]).spawn().expect("sh starts")
}

#[tokio::test]
#[ignore = "the process that the next test kills; runs only there"]
async fn holder() {
    let Some(told) = std::env::var_os(HOLDER) else { return };
    let kafka = OwnKafka::start().await;
    let mut stopped = sh("echo up; exec sleep 600");
    stopped.wait_for_line(Duration::from_secs(10), |line| line == "up").await;
    stopped.sigstop();
    let log_dir = stopped.log_path().parent().unwrap();
    let (server_dir, log_dir) = (kafka.dir().display().to_string(), log_dir.display());
    let text = format!("{} {} {server_dir} {log_dir}", kafka.pid().unwrap(), stopped.pid());
    let new = Path::new(&told).with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, told).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn servers_and_programs_die_with_an_owner_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let told = dir.path().join("told");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "holder"])
        .env(HOLDER, &told)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let text = eventually(Duration::from_secs(180), "the holder has started what it holds", || async {
        std::fs::read_to_string(&told)
    })
    .await;
    let [kafka, program, server_dir, log_dir] = text.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let (kafka, program) = (kafka.parse().unwrap(), program.parse().unwrap());
    assert!(is_alive(kafka) && is_alive(program) && Path::new(server_dir).exists());

    holder.kill().unwrap();
    holder.wait().unwrap();

    eventually(Duration::from_secs(20), "they are dead, and their files gone", || async {
        let files = Path::new(server_dir).exists() || Path::new(log_dir).exists();
        !is_alive(kafka) && !is_alive(program) && !files
    })
    .await;
}

#[tokio::test]
async fn a_program_is_killed_and_reaped_when_dropped() {
    let program = sh("exec sleep 600");
    let pid = program.pid();
    assert!(is_alive(pid));
    drop(program);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn the_exit_status_and_the_last_words_are_told() {
    let mut program = sh("echo one; echo two >&2; exit 7");
    assert_eq!(program.wait_for_line(Duration::from_secs(10), |line| line.starts_with("tw")).await, "two");
    assert_eq!(program.wait_exit(Duration::from_secs(10)).await, 7);
    assert_eq!(program.log_text(), "one\ntwo\n");
}

#[tokio::test]
#[should_panic(expected = "ended with status 3. Its log ends:\nno such topic")]
async fn waiting_for_a_program_that_has_ended_shows_its_log() {
    sh("echo no such topic; exit 3").wait_for_line(Duration::from_secs(60), |line| line == "ready").await;
}

#[tokio::test]
async fn signals_reach_the_program_itself() {
    let mut program = sh("trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.05; done");
    program.wait_for_line(Duration::from_secs(10), |line| line == "ready").await;
    program.sigstop();
    program.sigterm();
    let stat = format!("/proc/{}/stat", program.pid());
    eventually(Duration::from_secs(10), "it is frozen", || async {
        std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
    })
    .await;
    assert_eq!(program.log_text(), "ready\n");
    program.sigcont();
    assert_eq!(program.wait_exit(Duration::from_secs(10)).await, 0);
    assert_eq!(program.log_text(), "ready\nasked\n");
    program.sigterm();
}
