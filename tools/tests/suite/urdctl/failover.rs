//! Endpoints that are not there, connections that break, members that die.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use super::{Running, urdctl};
use crate::harness::{Cluster, Program, SETTLE_TIMEOUT, Server, ports, wait_for};

fn nobody() -> String {
    format!("127.0.0.1:{}", ports::free())
}

#[test]
fn goes_on_at_the_next_endpoint_and_names_the_one_that_is_not_there() {
    let server = Server::start_fresh(Program::Subject);
    let dead = nobody();
    let both = format!("{dead},{}", server.endpoint());
    let put = urdctl(&both, &["put", "a", "1", "-w", "json"]);
    let answer: serde_json::Value = serde_json::from_str(&put.expect(0)).expect("JSON");
    assert_eq!(answer["header"]["revision"], 2);
    let warning = format!(
        "warning: {dead} is unreachable (connection refused); going on with {}",
        server.endpoint()
    );
    assert_eq!(put.stderr().trim_end(), warning);
    assert_eq!(urdctl(&both, &["get", "a"]).expect(0), "a\n1\n");
    // Made once.
    let get = urdctl(&server.endpoint(), &["get", "a", "-w", "json"]).expect(0);
    let answer: serde_json::Value = serde_json::from_str(&get).expect("JSON");
    assert_eq!(
        (&answer["header"]["revision"], &answer["kvs"][0]["version"]),
        (&2.into(), &1.into())
    );
}

#[test]
fn names_all_endpoints_when_none_is_there() {
    let (one, other) = (nobody(), nobody());
    let both = format!("{one},{other}");
    for command in [&["get", "a"][..], &["put", "a", "1"], &["watch", "a"], &["lease", "list"]] {
        let mut arguments = command.to_vec();
        arguments.push("--dial-timeout=300ms");
        let said = urdctl(&both, &arguments);
        assert_ne!(said.code, Some(0), "{command:?}");
        assert_eq!(said.stdout(), "");
        for dead in [&one, &other] {
            let named = format!("{dead} is unreachable (connection refused)");
            assert!(said.stderr().contains(&named), "{command:?}: {}", said.stderr());
        }
    }
}

#[test]
fn asks_each_endpoint_for_itself() {
    let server = Server::start_fresh(Program::Subject);
    let dead = nobody();
    let both = format!("{dead},{}", server.endpoint());
    for command in ["health", "status", "hashkv"] {
        let said = urdctl(&both, &["endpoint", command, "--dial-timeout=300ms"]);
        assert_eq!(said.code, Some(1), "{command}: {}", said.stderr());
        assert!(said.stdout().starts_with(&server.endpoint()), "{command}: {}", said.stdout());
        assert!(said.stderr().contains(&dead), "{command}: {}", said.stderr());
    }
    let said = urdctl(&both, &["defrag", "--dial-timeout=300ms"]);
    assert_eq!(said.code, Some(1));
    assert!(said.stderr().starts_with(&format!("Failed to defragment etcd member[{dead}]")));
    assert!(said.stdout().starts_with("Finished defragmenting etcd member["));
}

/// Forwards connections to a server, and ends one behind the request that holds `word`: the server gets the request, the
/// client no answer.
fn proxy_that_breaks_behind(word: &'static str, server: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address").to_string();
    let server = server.to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(mut client), Ok(mut server)) = (client, TcpStream::connect(&server)) else {
                return;
            };
            let (Ok(mut back), Ok(mut answers)) = (client.try_clone(), server.try_clone()) else {
                return;
            };
            std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(length @ 1..) = client.read(&mut bytes) {
                    let chunk = &bytes[..length];
                    if chunk.windows(word.len()).any(|window| window == word.as_bytes()) {
                        // First this side, so that no answer can pass.
                        client.shutdown(Shutdown::Both).ok();
                        server.write_all(chunk).ok();
                        return;
                    }
                    if server.write_all(chunk).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn a_change_is_not_made_twice() {
    let server = Server::start_fresh(Program::Subject);
    let broken = proxy_that_breaks_behind("poison", &server.endpoint());
    let both = format!("{broken},{}", server.endpoint());
    let put = urdctl(&both, &["put", "a", "poison"]);
    assert_eq!(put.code, Some(1), "{}", put.stderr());
    for word in [&broken[..], "it is not known whether the change was made"] {
        assert!(put.stderr().contains(word), "{}", put.stderr());
    }
    // It was made, once.
    let version = wait_for("the change", SETTLE_TIMEOUT, || {
        let json = urdctl(&server.endpoint(), &["get", "a", "-w", "json"]).expect(0);
        let answer: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        answer["kvs"][0]["version"].as_i64()
    });
    assert_eq!(version, 1);
    // A read does no harm, and is asked again.
    urdctl(&server.endpoint(), &["put", "poisoned", "2"]).expect(0);
    let get = urdctl(&both, &["get", "poisoned"]);
    assert_eq!(get.expect(0), "poisoned\n2\n");
    assert!(get.stderr().contains(&format!("{broken} does not answer")), "{}", get.stderr());
}

#[test]
fn a_server_that_is_paused_is_passed_over() {
    let (paused, server) =
        (Server::start_fresh(Program::Subject), Server::start_fresh(Program::Subject));
    paused.signal(rustix::process::Signal::STOP);
    let both = format!("{},{}", paused.endpoint(), server.endpoint());
    let put = urdctl(&both, &["put", "a", "1", "--dial-timeout=1s"]);
    paused.signal(rustix::process::Signal::CONT);
    assert_eq!(put.expect(0), "OK\n");
    let named = format!("{} is unreachable (no answer within 1s)", paused.endpoint());
    assert!(put.stderr().contains(&named), "{}", put.stderr());
    assert_eq!(urdctl(&server.endpoint(), &["get", "a"]).expect(0), "a\n1\n");
    assert_eq!(urdctl(&paused.endpoint(), &["get", "a"]).expect(0), "");
}

#[test]
fn survives_the_death_of_members() {
    let mut cluster = Cluster::start(Program::Subject, 3, &[]);
    let endpoints = cluster.endpoints().join(",");
    urdctl(&endpoints, &["put", "a", "1"]).expect(0);
    let watch = Running::urdctl(&endpoints, &["watch", "a", "--rev=1"]);
    assert_eq!(watch.lines(3), ["PUT", "a", "1"]);
    let first = cluster.names()[0].clone();
    cluster.kill(&first);
    watch.complaint("going on");
    // While there is no leader a put waits; a read of the new one says when there is.
    wait_for("a new leader", SETTLE_TIMEOUT, || {
        (urdctl(&endpoints, &["get", "a"]).code == Some(0)).then_some(())
    });
    urdctl(&endpoints, &["put", "a", "2"]).expect(0);
    assert_eq!(watch.lines(3), ["PUT", "a", "2"]);
    urdctl(&endpoints, &["put", "a", "3"]).expect(0);
    assert_eq!(watch.lines(3), ["PUT", "a", "3"]);
    let members = urdctl(&endpoints, &["member", "list", "--consistency=s"]).expect(0);
    assert_eq!(members.lines().count(), 3);
}
