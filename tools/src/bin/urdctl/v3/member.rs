//! `member list`, `add`, `remove`, `update` and `promote`.

use clap::Subcommand;
use urd_proto::etcdserverpb as pb;

use super::client::Client;
use super::global::Global;
use super::kv::is_serializable;
use super::methods::{MEMBER_ADD, MEMBER_LIST, MEMBER_PROMOTE, MEMBER_REMOVE, MEMBER_UPDATE};
use super::print::{Format, put_text};
use crate::failure::Failure;
use crate::go;

#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Add a member, and print what to start it with
    #[command(override_usage = "urdctl member add <memberName> [options]")]
    Add {
        #[arg(value_name = "NAME")]
        words: Vec<String>,
        /// The new member's peer URLs, separated by commas
        #[arg(long, default_value = "", hide_default_value = true, value_name = "URLS")]
        peer_urls: String,
        /// It is to follow without a vote, until it is promoted
        #[arg(long)]
        learner: bool,
    },
    /// Remove a member
    #[command(override_usage = "urdctl member remove <memberID>")]
    Remove {
        /// In hexadecimal
        #[arg(value_name = "MEMBER")]
        words: Vec<String>,
    },
    /// Change a member's peer URLs
    #[command(override_usage = "urdctl member update <memberID> [options]")]
    Update {
        /// In hexadecimal
        #[arg(value_name = "MEMBER")]
        words: Vec<String>,
        /// Its peer URLs from now on, separated by commas
        #[arg(long, default_value = "", hide_default_value = true, value_name = "URLS")]
        peer_urls: String,
    },
    /// List all members
    ///
    /// Simple output has, separated by commas: id, status, name, peer URLs, client URLs, is it a learner.
    List {
        /// Linearizable (l) or serializable (s)
        #[arg(long, default_value = "l")]
        consistency: String,
        #[arg(hide = true)]
        words: Vec<String>,
    },
    /// Give a learner a vote
    #[command(override_usage = "urdctl member promote <memberID>")]
    Promote {
        /// In hexadecimal
        #[arg(value_name = "MEMBER")]
        words: Vec<String>,
    },
}

pub(crate) async fn run(global: &Global, command: MemberCommand) -> Result<(), Failure> {
    match command {
        MemberCommand::Add { words, peer_urls, learner } => {
            add(global, &words, &peer_urls, learner).await
        }
        MemberCommand::Remove { words } => remove(global, &words).await,
        MemberCommand::Update { words, peer_urls } => update(global, &words, &peer_urls).await,
        MemberCommand::List { consistency, .. } => {
            let printer = global.printer()?;
            let linearizable = !is_serializable(&consistency)?;
            let request = pb::MemberListRequest { linearizable };
            printer.member_list(&Client::new(global)?.call(&MEMBER_LIST, &request).await?)
        }
        MemberCommand::Promote { words } => promote(global, &words).await,
    }
}

fn member_of(words: &[String]) -> Result<u64, Failure> {
    let [member] = words else { return Err(Failure::bad_arguments("member ID is not provided")) };
    go::parse_u64(member, 16).map_err(|error| {
        Failure::bad_arguments(format!("bad member ID arg ({error}), expecting ID in Hex"))
    })
}

fn urls_of(urls: &str) -> Result<Vec<String>, Failure> {
    if urls.is_empty() {
        return Err(Failure::bad_arguments("member peer urls not provided"));
    }
    Ok(urls.split(',').map(str::to_owned).collect())
}

async fn add(
    global: &Global,
    words: &[String],
    peer_urls: &str,
    is_learner: bool,
) -> Result<(), Failure> {
    let name = match words {
        [] => return Err(Failure::bad_arguments("member name not provided")),
        [name] => name,
        many => {
            let urls = many.iter().filter(|word| word.to_lowercase().starts_with("http"));
            let hints = urls.map(|url| format!(", did you mean --peer-urls={url}"));
            let hints = hints.collect::<String>();
            return Err(Failure::bad_arguments(format!("too many arguments{hints}")));
        }
    };
    let peer_ur_ls = urls_of(peer_urls)?;
    let printer = global.printer()?;
    let request = pb::MemberAddRequest { peer_ur_ls, is_learner };
    let answer = Client::new(global)?.call(&MEMBER_ADD, &request).await?;
    let member = answer.member.clone().unwrap_or_default();
    let learner = if member.is_learner { " as learner " } else { " " };
    let cluster = answer.header.unwrap_or_default().cluster_id;
    let text = format!("Member {:16x} added{learner}to cluster {cluster:16x}\n", member.id);
    let told = (&answer.header, answer.member.as_ref(), &answer.members[..]);
    printer.membership(text, &answer, told)?;
    if printer.format != Format::Simple {
        return Ok(());
    }
    let peers = answer.members.iter().flat_map(|one| {
        let name = if one.id == member.id { name } else { &one.name };
        one.peer_ur_ls.iter().map(move |url| format!("{name}={url}"))
    });
    put_text(&format!(
        "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_ADVERTISE_PEER_URLS={}\n\
         ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        go::quote(name.as_bytes()),
        go::quote(peers.collect::<Vec<_>>().join(",").as_bytes()),
        go::quote(peer_urls.as_bytes())
    ))
}

/// The line that says what became of a member.
fn line(id: u64, verb: &str, header: &Option<pb::ResponseHeader>) -> String {
    format!("Member {id:16x} {verb} cluster {:16x}\n", header.unwrap_or_default().cluster_id)
}

async fn remove(global: &Global, words: &[String]) -> Result<(), Failure> {
    let id = member_of(words)?;
    let printer = global.printer()?;
    let answer = Client::new(global)?.call(&MEMBER_REMOVE, &pb::MemberRemoveRequest { id }).await?;
    let text = line(id, "removed from", &answer.header);
    printer.membership(text, &answer, (&answer.header, None, &answer.members))
}

async fn update(global: &Global, words: &[String], peer_urls: &str) -> Result<(), Failure> {
    let id = member_of(words)?;
    let peer_ur_ls = urls_of(peer_urls)?;
    let printer = global.printer()?;
    let request = pb::MemberUpdateRequest { id, peer_ur_ls };
    let answer = Client::new(global)?.call(&MEMBER_UPDATE, &request).await?;
    let text = line(id, "updated in", &answer.header);
    printer.membership(text, &answer, (&answer.header, None, &answer.members))
}

async fn promote(global: &Global, words: &[String]) -> Result<(), Failure> {
    let id = member_of(words)?;
    let printer = global.printer()?;
    let answer =
        Client::new(global)?.call(&MEMBER_PROMOTE, &pb::MemberPromoteRequest { id }).await?;
    let text = line(id, "promoted in", &answer.header);
    printer.membership(text, &answer, (&answer.header, None, &answer.members))
}
