//! `/v2/stats`: what this member, its store and the leader have done.
//!
//! The names of etcd's fields. Appends are raft's, whatever carries them. How long a follower takes is measured beside them,
//! on the connection that carries heartbeats, and a success is such a round trip; a failure is a connection that broke or
//! could not be made. etcd counts only the appends that it sends by its slower way, so that its numbers are mostly zero.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};

use super::{answer, json};
use crate::api::node::{Node, RoundTrips};
use crate::store::v2::Counts;

/// `/v2/stats/self`.
pub(super) fn own<N: Node>(node: &N, method: &Method) -> Response<Bytes> {
    if method != Method::GET {
        return answer::method_not_allowed("GET");
    }
    let published = node.published();
    let own = node.identity().member;
    let name = published.view.members().get(own).map_or("", |member| &member.name);
    let state = if published.leader == Some(own) { "StateLeader" } else { "StateFollower" };
    let leader = node.leader_since();
    let now = node.unix_nanoseconds();
    let traffic = node.peer_traffic();
    let received: u64 = traffic.iter().map(|peer| peer.received_appends).sum();
    let sent: u64 = traffic.iter().map(|peer| peer.sent_appends).sum();
    let mut text = "{\"name\":".to_owned();
    json::string(&mut text, name.as_bytes());
    text += &format!(
        ",\"id\":\"{own}\",\"state\":\"{state}\",\"startTime\":\"{}\",\"leaderInfo\":{{\"leader\":\"{}\",\
         \"uptime\":\"{}\",\"startTime\":\"{}\"}},\"recvAppendRequestCnt\":{received},\"sendAppendRequestCnt\":{sent}}}",
        json::Time(node.started()),
        leader.map_or(String::new(), |(id, _)| id.to_string()),
        uptime(leader.map_or(0, |(_, since)| now.saturating_sub(since))),
        json::Time(leader.map_or(now, |(_, since)| since)),
    );
    answer::json(StatusCode::OK, text)
}

/// `/v2/stats/store`.
pub(super) fn store<N: Node>(node: &N, method: &Method) -> Response<Bytes> {
    if method != Method::GET {
        return answer::method_not_allowed("GET");
    }
    let tally = node.v2_tally();
    let gets = (tally.gets.load(Relaxed), tally.gets_failed.load(Relaxed));
    let counts = node.published().view.v2_statistics();
    answer::json(StatusCode::OK, counted(gets, &counts, tally.waiters.load(Relaxed)))
}

fn counted((gets, gets_failed): (u64, u64), counts: &Counts, watchers: u64) -> String {
    let Counts { sets, creates, updates, swaps, deletes, compared_deletes, expired } = counts;
    let mut text = format!("{{\"getsSuccess\":{gets},\"getsFail\":{gets_failed},");
    for (name, ends) in [
        ("sets", sets),
        ("delete", deletes),
        ("update", updates),
        ("create", creates),
        ("compareAndSwap", swaps),
        ("compareAndDelete", compared_deletes),
    ] {
        text += &format!("\"{name}Success\":{},\"{name}Fail\":{},", ends.success, ends.fail);
    }
    text + &format!("\"expireCount\":{expired},\"watchers\":{watchers}}}")
}

/// `/v2/stats/leader`: only the leader has them.
pub(super) fn leader<N: Node>(node: &N, method: &Method) -> Response<Bytes> {
    if method != Method::GET {
        return answer::method_not_allowed("GET");
    }
    let published = node.published();
    let own = node.identity().member;
    if published.leader != Some(own) {
        return answer::json(StatusCode::FORBIDDEN, json::message("not current leader"));
    }
    let traffic = node.peer_traffic();
    let others = published.view.members().iter().filter(|member| member.id != own.0);
    let others: Vec<String> = others
        .map(|member| {
            let told = traffic.iter().find(|peer| peer.member.0 == member.id);
            let (trips, failures) =
                told.map_or_else(Default::default, |peer| (peer.round_trips, peer.failures));
            format!("\"{:x}\":{}", member.id, follower(&trips, failures))
        })
        .collect();
    let text = format!("{{\"leader\":\"{own}\",\"followers\":{{{}}}}}", others.join(","));
    answer::json(StatusCode::OK, text)
}

/// Times are milliseconds, as etcd's.
fn follower(trips: &RoundTrips, failures: u64) -> String {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    let average = milliseconds(trips.total) / trips.count.max(1) as f64;
    format!(
        "{{\"latency\":{{\"current\":{},\"average\":{average},\"standardDeviation\":{},\"minimum\":{},\"maximum\":{}}},\
         \"counts\":{{\"fail\":{failures},\"success\":{}}}}}",
        milliseconds(trips.last),
        milliseconds(trips.deviation),
        milliseconds(trips.shortest),
        milliseconds(trips.longest),
        trips.count,
    )
}

/// Nanoseconds, as Go prints a time span of a second or more.
fn uptime(nanoseconds: i64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    let fraction = format!("{:09}", nanoseconds % 1_000_000_000);
    let fraction = match fraction.trim_end_matches('0') {
        "" => String::new(),
        digits => format!(".{digits}"),
    };
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_gos() {
        assert_eq!(uptime(0), "0s");
        assert_eq!(uptime(699_128_647), "0.699128647s");
        assert_eq!(uptime(80_225_346_630), "1m20.22534663s");
        assert_eq!(uptime(7_200_000_000_000), "2h0m0s");
    }

    #[test]
    fn followers_are_told_in_milliseconds() {
        let trips = RoundTrips {
            count: 4,
            total: Duration::from_micros(2_000),
            deviation: Duration::from_micros(250),
            last: Duration::from_micros(750),
            shortest: Duration::from_micros(125),
            longest: Duration::from_millis(1),
        };
        assert_eq!(
            follower(&trips, 3),
            "{\"latency\":{\"current\":0.75,\"average\":0.5,\"standardDeviation\":0.25,\
             \"minimum\":0.125,\"maximum\":1},\"counts\":{\"fail\":3,\"success\":4}}"
        );
        assert!(follower(&RoundTrips::default(), 0).contains("\"average\":0,"));
    }

    #[test]
    fn counts_stand_in_etcds_order() {
        assert_eq!(
            counted((1, 5), &Counts::default(), 2),
            "{\"getsSuccess\":1,\"getsFail\":5,\"setsSuccess\":0,\"setsFail\":0,\"deleteSuccess\":0,\
             \"deleteFail\":0,\"updateSuccess\":0,\"updateFail\":0,\"createSuccess\":0,\
             \"createFail\":0,\"compareAndSwapSuccess\":0,\"compareAndSwapFail\":0,\
             \"compareAndDeleteSuccess\":0,\"compareAndDeleteFail\":0,\"expireCount\":0,\
             \"watchers\":2}"
        );
    }
}
