//! `cluster-health`, and `member list`, `add`, `remove` and `update`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, Member, expect, json as json_of, json_request, request};
use super::http;
use super::node::print;
use super::{Global, plainly};
use crate::failure::Failure;
use crate::go;

const CHECK_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// Again every 10 seconds, until interrupted
    #[arg(short, long)]
    forever: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// List all members
    List {
        #[arg(hide = true)]
        words: Vec<String>,
    },
    /// Add a member, and print what to start it with
    #[command(override_usage = "urdctl member add <name> <peerURL>")]
    Add {
        #[arg(value_name = "NAME PEER_URL")]
        words: Vec<String>,
    },
    /// Remove a member
    #[command(override_usage = "urdctl member remove <memberID>")]
    Remove {
        #[arg(value_name = "MEMBER")]
        words: Vec<String>,
    },
    /// Change a member's peer URLs
    #[command(override_usage = "urdctl member update <memberID> <peerURLs>")]
    Update {
        #[arg(value_name = "MEMBER PEER_URLS")]
        words: Vec<String>,
    },
}

pub(crate) fn run(global: &Global, command: &MemberCommand) -> Result<(), Failure> {
    match command {
        MemberCommand::List { words } if words.is_empty() => list(global),
        MemberCommand::List { .. } => Err(plainly("No arguments accepted")),
        MemberCommand::Add { words } => match &words[..] {
            [name, url] => add(global, name, url),
            _ => Err(plainly("Provide a name and a single member peerURL")),
        },
        MemberCommand::Remove { words } => match &words[..] {
            [id] => remove(global, id),
            _ => Err(plainly("Provide a single member ID")),
        },
        MemberCommand::Update { words } => match &words[..] {
            [id, urls] => update(global, id, urls),
            _ => Err(plainly(
                "Provide an ID and a list of comma separated peerURL (0xabcd http://example.com,http://example1.com)",
            )),
        },
    }
}

/// These commands say what went wrong without `Error:`.
fn said<T>(result: Result<T, Failure>) -> Result<T, Failure> {
    result.map_err(|failure| plainly(failure.text().unwrap_or_default().trim_start()))
}

fn list(global: &Global) -> Result<(), Failure> {
    let client = global.client()?;
    let members = said(client.members())?;
    let leader = leader(&client).map_err(|failure| {
        plainly(format!(
            "Failed to get leader:  {}",
            failure.text().unwrap_or_default().trim_start()
        ))
    })?;
    for member in members {
        let (id, peers) = (&member.id, member.peer_urls.join(","));
        if member.name.is_empty() {
            print(&format!("{id}[unstarted]: peerURLs={peers}\n"))?;
        } else {
            print(&format!(
                "{id}: name={} peerURLs={peers} clientURLs={} isLeader={}\n",
                member.name,
                member.client_urls.join(","),
                leader == *id
            ))?;
        }
    }
    Ok(())
}

fn leader(client: &Client) -> Result<String, Failure> {
    let answer = client.send(&request("GET", "/v2/members/leader"))?;
    expect(&answer, &[200])?;
    Ok(Member::read(&json_of(&answer)?).id)
}

fn add(global: &Global, name: &str, url: &str) -> Result<(), Failure> {
    let client = global.client()?;
    let added = json_request("POST", "/v2/members", &json!({ "peerURLs": [url] }));
    let added = said(client.send(&added).and_then(|answer| {
        expect(&answer, &[201])?;
        json_of(&answer)
    }))?;
    let id = Member::read(&added).id;
    print(&format!("Added member named {name} with ID {id} to cluster\n"))?;
    let members = said(client.members())?;
    let peers = members.iter().flat_map(|member| {
        let name = if member.id == id { name } else { &member.name };
        member.peer_urls.iter().map(move |url| format!("{name}={url}"))
    });
    let peers = peers.collect::<Vec<_>>().join(",");
    print(&format!(
        "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        go::quote(name.as_bytes()),
        go::quote(peers.as_bytes())
    ))
}

fn remove(global: &Global, id: &str) -> Result<(), Failure> {
    let client = global.client()?;
    let members = client.members().map_err(|failure| {
        let text = failure.text().unwrap_or_default().trim_start().to_owned();
        plainly(format!("Error while verifying ID against known members: {text}"))
    })?;
    for member in members.iter().filter(|member| member.name == id) {
        eprintln!(
            "Found a member named {}; if this is correct, please use its ID, eg:\n\turdctl member remove {}\n",
            member.name, member.id
        );
    }
    if !members.iter().any(|member| member.id == id) {
        return Err(plainly(format!("Couldn't find a member in the cluster with an ID of {id}.")));
    }
    let removed = client.send(&request("DELETE", &format!("/v2/members/{id}")));
    let removed = removed.and_then(|answer| expect(&answer, &[204, 410]));
    removed.map_err(|failure| {
        let text = failure.text().unwrap_or_default().trim_start().to_owned();
        plainly(format!("Received an error trying to remove member {id}: {text}"))
    })?;
    print(&format!("Removed member {id} from cluster\n"))
}

fn update(global: &Global, id: &str, urls: &str) -> Result<(), Failure> {
    let urls: Vec<&str> = urls.split(',').collect();
    let path = format!("/v2/members/{}", http::escape_path(id));
    let client = global.client()?;
    let updated = client.send(&json_request("PUT", &path, &json!({ "peerURLs": urls })));
    said(updated.and_then(|answer| expect(&answer, &[204])))?;
    print(&format!("Updated member with ID {id} in cluster\n"))
}

pub(crate) fn health(global: &Global, args: &HealthArgs) -> Result<(), Failure> {
    let client = Client::new(global)?;
    let members = match client.members() {
        Ok(members) => members,
        Err(failure) => {
            print("cluster may be unhealthy: failed to list members\n")?;
            return Err(failure);
        }
    };
    loop {
        let mut healthy = 0;
        for member in &members {
            healthy += usize::from(is_healthy(member)?);
        }
        let verdict = match healthy {
            all if all == members.len() => "cluster is healthy\n",
            0 => "cluster is unavailable\n",
            _ => "cluster is degraded\n",
        };
        print(verdict)?;
        if !args.forever {
            return if healthy == members.len() { Ok(()) } else { Err(Failure::silent(5)) };
        }
        print("\nnext check after 10 second...\n\n")?;
        std::thread::sleep(CHECK_INTERVAL);
    }
}

/// Asks a member at each of its URLs until one answers.
fn is_healthy(member: &Member) -> Result<bool, Failure> {
    let id = &member.id;
    if member.client_urls.is_empty() {
        print(&format!("member {id} is unreachable: no available published client urls\n"))?;
        return Ok(false);
    }
    for url in &member.client_urls {
        let answer = match http::get(url, "/health") {
            Ok(answer) => answer,
            Err(error) => {
                print(&format!("failed to check the health of member {id} on {url}: {error}\n"))?;
                continue;
            }
        };
        let Ok(document) = serde_json::from_slice::<Value>(&answer.body) else {
            print(&format!(
                "failed to check the health of member {id} on {url}: the answer is not JSON\n"
            ))?;
            continue;
        };
        let is_healthy = document["health"] == "true" || document["health"] == true;
        let verdict = if is_healthy { "healthy" } else { "unhealthy" };
        print(&format!("member {id} is {verdict}: got {verdict} result from {url}\n"))?;
        return Ok(is_healthy);
    }
    let urls = member.client_urls.join(" ");
    print(&format!("member {id} is unreachable: [{urls}] are all unreachable\n"))?;
    Ok(false)
}
