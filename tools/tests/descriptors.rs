//! Compares our wire messages with those of a client that is maintained elsewhere.
//!
//! The etcd-client crate ships etcd 3.7's `.proto` files. They are compiled here, and every message,
//! field, oneof, enum value and method is written down as a *fact*: a name and what stands on the
//! wire for it. Both sides must state the same facts, nothing missing and nothing extra. gRPC's
//! health protocol is not among those files, so its facts are spelled out.
//!
//! Comments, file names, options and reserved numbers are not on the wire and not compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use prost_reflect::{DescriptorPool, EnumDescriptor, MessageDescriptor, ServiceDescriptor};

/// The packages that both sides have.
const PACKAGES: [&str; 5] = ["authpb", "etcdserverpb", "mvccpb", "v3electionpb", "v3lockpb"];

/// What the reference imports for options only: nothing of it is a message on etcd's wire.
const OPTION_PACKAGES: [&str; 4] =
    ["google.api", "google.protobuf", "grpc.gateway.protoc_gen_openapiv2.options", "versionpb"];

const REFERENCE_FILES: [&str; 5] = [
    "etcd/api/authpb/auth.proto",
    "etcd/api/etcdserverpb/rpc.proto",
    "etcd/api/mvccpb/kv.proto",
    "etcd/server/etcdserver/api/v3election/v3electionpb/v3election.proto",
    "etcd/server/etcdserver/api/v3lock/v3lockpb/v3lock.proto",
];

/// Full name to what is on the wire.
type Facts = BTreeMap<String, String>;

#[test]
fn wire_equals_the_clients() {
    let ours = facts(&our_pool(), |package| PACKAGES.contains(&package));
    let reference = reference_pool();
    let theirs = facts(&reference, |package| PACKAGES.contains(&package));

    // Guards against comparing nothing with nothing.
    for name in ["etcdserverpb.RangeRequest.key", "etcdserverpb.KV/RangeStream", "mvccpb.KeyValue"]
    {
        assert!(theirs.contains_key(name), "the reference has no {name}: was it compiled whole?");
    }
    let differences = differences(&ours, &theirs);
    assert!(
        differences.is_empty(),
        "{} of {} facts differ from the client's:\n{}",
        differences.len(),
        theirs.len(),
        differences.join("\n")
    );
}

#[test]
fn no_package_is_left_out() {
    let mut packages = PACKAGES.to_vec();
    assert_eq!(packages_of(&reference_pool(), &OPTION_PACKAGES), packages);
    packages.push("grpc.health.v1");
    packages.sort_unstable();
    assert_eq!(packages_of(&our_pool(), &[]), packages);
}

#[test]
fn health_is_grpcs() {
    let actual = facts(&our_pool(), |package| package == "grpc.health.v1");
    let expected: Facts = [
        ("Health", "service"),
        ("Health/Check", "HealthCheckRequest -> HealthCheckResponse"),
        ("Health/List", "HealthListRequest -> HealthListResponse"),
        ("Health/Watch", "HealthCheckRequest -> stream HealthCheckResponse"),
        ("HealthCheckRequest", "message"),
        ("HealthCheckRequest.service", "1 string, Optional, json service, no presence"),
        ("HealthCheckResponse", "message"),
        ("HealthCheckResponse.status", "1 ServingStatus, Optional, json status, no presence"),
        ("HealthCheckResponse.ServingStatus", "enum"),
        ("HealthCheckResponse.ServingStatus.UNKNOWN", "0"),
        ("HealthCheckResponse.ServingStatus.SERVING", "1"),
        ("HealthCheckResponse.ServingStatus.NOT_SERVING", "2"),
        ("HealthCheckResponse.ServingStatus.SERVICE_UNKNOWN", "3"),
        ("HealthListRequest", "message"),
        ("HealthListResponse", "message"),
        ("HealthListResponse.statuses", "1 StatusesEntry, Repeated, json statuses, no presence"),
        ("HealthListResponse.StatusesEntry", "map entry"),
        ("HealthListResponse.StatusesEntry.key", "1 string, Optional, json key, no presence"),
        (
            "HealthListResponse.StatusesEntry.value",
            "2 HealthCheckResponse, Optional, json value, presence",
        ),
    ]
    .into_iter()
    .map(|(name, fact)| (format!("grpc.health.v1.{name}"), qualify_health(fact)))
    .collect();
    let differences = differences(&actual, &expected);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_kind_of_difference_is_named() {
    let facts = |list: &[(&str, &str)]| -> Facts {
        list.iter().map(|(name, fact)| ((*name).to_owned(), (*fact).to_owned())).collect()
    };
    let ours = facts(&[("a.M.same", "1 bytes"), ("a.M.other", "2 int64"), ("a.M.extra", "4 bool")]);
    let theirs = facts(&[("a.M.same", "1 bytes"), ("a.M.other", "2 string"), ("a.M.lost", "3")]);
    assert_eq!(
        differences(&ours, &theirs),
        [
            "a.M.extra: not expected, but we have: 4 bool",
            "a.M.lost: missing, expected: 3",
            "a.M.other: we have: 2 int64, expected: 2 string",
        ]
    );
}

/// Both directions, sorted by name.
fn differences(ours: &Facts, theirs: &Facts) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, fact) in ours {
        match theirs.get(name) {
            None => lines.push(format!("{name}: not expected, but we have: {fact}")),
            Some(expected) if expected != fact => {
                lines.push(format!("{name}: we have: {fact}, expected: {expected}"));
            }
            Some(_) => {}
        }
    }
    for (name, expected) in theirs {
        if !ours.contains_key(name) {
            lines.push(format!("{name}: missing, expected: {expected}"));
        }
    }
    lines.sort_unstable();
    lines
}

fn facts(pool: &DescriptorPool, wanted: impl Fn(&str) -> bool) -> Facts {
    let mut facts = Facts::new();
    for message in pool.all_messages().filter(|message| wanted(message.package_name())) {
        message_facts(&message, &mut facts);
    }
    for r#enum in pool.all_enums().filter(|r#enum| wanted(r#enum.package_name())) {
        enum_facts(&r#enum, &mut facts);
    }
    for service in pool.services().filter(|service| wanted(service.package_name())) {
        service_facts(&service, &mut facts);
    }
    facts
}

fn message_facts(message: &MessageDescriptor, facts: &mut Facts) {
    let kind = if message.is_map_entry() { "map entry" } else { "message" };
    facts.insert(message.full_name().to_owned(), kind.to_owned());
    for field in message.fields() {
        let mut fact = format!(
            "{} {}, {:?}, json {}, {}",
            field.number(),
            type_name(&field.kind()),
            field.cardinality(),
            field.json_name(),
            if field.supports_presence() { "presence" } else { "no presence" },
        );
        if field.is_packed() {
            fact.push_str(", packed");
        }
        if field.is_group() {
            fact.push_str(", group");
        }
        if let Some(oneof) = field.containing_oneof() {
            fact.push_str(", oneof ");
            fact.push_str(oneof.name());
        }
        facts.insert(field.full_name().to_owned(), fact);
    }
}

fn enum_facts(r#enum: &EnumDescriptor, facts: &mut Facts) {
    facts.insert(r#enum.full_name().to_owned(), "enum".to_owned());
    for value in r#enum.values() {
        // Protobuf scopes a value beside its enum; under it, equal names do not collide here.
        let name = format!("{}.{}", r#enum.full_name(), value.name());
        facts.insert(name, value.number().to_string());
    }
}

fn service_facts(service: &ServiceDescriptor, facts: &mut Facts) {
    facts.insert(service.full_name().to_owned(), "service".to_owned());
    for method in service.methods() {
        let stream = |streaming| if streaming { "stream " } else { "" };
        let fact = format!(
            "{}{} -> {}{}",
            stream(method.is_client_streaming()),
            method.input().full_name(),
            stream(method.is_server_streaming()),
            method.output().full_name(),
        );
        facts.insert(format!("{}/{}", service.full_name(), method.name()), fact);
    }
}

fn type_name(kind: &prost_reflect::Kind) -> String {
    match kind {
        prost_reflect::Kind::Message(message) => message.full_name().to_owned(),
        prost_reflect::Kind::Enum(r#enum) => r#enum.full_name().to_owned(),
        scalar => format!("{scalar:?}"),
    }
}

/// Writes out the package in the facts of `health_is_grpcs`, which leave it away to stay readable.
fn qualify_health(fact: &str) -> String {
    let mut fact = fact.to_owned();
    for (short, full) in [
        ("ServingStatus", "HealthCheckResponse.ServingStatus"),
        ("StatusesEntry", "HealthListResponse.StatusesEntry"),
    ] {
        fact = fact.replace(short, full);
    }
    fact.replace("Health", "grpc.health.v1.Health")
}

fn packages_of(pool: &DescriptorPool, except: &[&str]) -> Vec<String> {
    let mut packages: Vec<String> = pool
        .files()
        .map(|file| file.package_name().to_owned())
        .filter(|package| !except.contains(&package.as_str()))
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn our_pool() -> DescriptorPool {
    DescriptorPool::decode(urd_proto::FILE_DESCRIPTOR_SET).expect("our descriptors decode")
}

fn reference_pool() -> DescriptorPool {
    let root = package_root("etcd-client").join("proto");
    let set = protox::compile(REFERENCE_FILES, [&root])
        .unwrap_or_else(|error| panic!("compile {}: {error:?}", root.display()));
    DescriptorPool::from_file_descriptor_set(set).expect("the client's descriptors decode")
}

/// Where cargo keeps the source of a dependency, at the version that the lock file names.
fn package_root(name: &str) -> PathBuf {
    // Without the filter cargo would also want the sources of other platforms' dependencies, which
    // nothing has downloaded.
    let host = output(Command::new("rustc").args(["--print", "host-tuple"]));
    let metadata = output(
        Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked", "--filter-platform"])
            .arg(host.trim())
            .current_dir(env!("CARGO_MANIFEST_DIR")),
    );
    let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("metadata lists packages");
    let package = packages
        .iter()
        .find(|package| package["name"] == name)
        .unwrap_or_else(|| panic!("{name} is not among the dependencies"));
    let manifest = package["manifest_path"].as_str().expect("a package has a manifest");
    Path::new(manifest).parent().expect("a manifest is in a directory").to_path_buf()
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("run {command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {errors}");
    String::from_utf8(output.stdout).expect("cargo and rustc print UTF-8")
}
