//! What answers about keys hold, and how it is printed.

use serde::Deserialize;

use super::client;
use super::http::Answer;
use crate::failure::Failure;
use crate::go::json_string;

#[derive(Debug, Deserialize)]
pub(crate) struct Response {
    pub action: String,
    pub node: Node,
    #[serde(rename = "prevNode")]
    pub previous: Option<Node>,
    /// From the answer's head.
    #[serde(skip)]
    pub index: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Node {
    pub key: String,
    pub dir: bool,
    pub value: String,
    pub nodes: Option<Vec<Node>>,
    pub created_index: u64,
    pub modified_index: u64,
    pub expiration: Option<String>,
    pub ttl: i64,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(rename = "errorCode")]
    code: i64,
    message: String,
    #[serde(default)]
    cause: String,
    #[serde(default)]
    index: u64,
}

impl Response {
    /// Reads an answer, or what it refuses.
    pub(crate) fn read(answer: &Answer) -> Result<Response, Failure> {
        if !matches!(answer.status, 200 | 201) {
            let Ok(refusal) = serde_json::from_slice::<Refusal>(&answer.body) else {
                return Err(refused_otherwise(answer));
            };
            let Refusal { code, message, cause, index } = refusal;
            let text = format!(" {code}: {message} ({cause}) [{index}]");
            return Err(Failure::with_code(4, text));
        }
        let document = client::json(answer)?;
        let response = serde_json::from_value::<Response>(document);
        let mut response = response.map_err(|_| {
            Failure::with_code(
                4,
                " client: the answer is not one about keys; is this etcd's v2 API?",
            )
        })?;
        response.index =
            answer.header("X-Etcd-Index").and_then(|index| index.parse().ok()).unwrap_or(0);
        Ok(response)
    }

    /// Prints it in a format of `--output`.
    pub(crate) fn print(&self, format: &str) -> Result<(), Failure> {
        let previous = self.previous.as_ref().map(|node| &node.value[..]);
        let text = match format {
            "simple" if self.action == "delete" => {
                format!("PrevNode.Value: {}\n", previous.unwrap_or_default())
            }
            "simple" => format!("{}\n", self.node.value),
            "extended" => self.extended(previous),
            "json" => {
                let previous = self.previous.as_ref().map_or("null".to_owned(), Node::json);
                let action = json_string(&self.action);
                format!(
                    "{{\"action\":{action},\"node\":{},\"prevNode\":{previous}}}\n",
                    self.node.json()
                )
            }
            _ => {
                eprintln!("Unsupported output format: {format}");
                return Ok(());
            }
        };
        print(&text)
    }

    fn extended(&self, previous: Option<&str>) -> String {
        let node = &self.node;
        let mut text = format!(
            "Key: {}\nCreated-Index: {}\nModified-Index: {}\n",
            node.key, node.created_index, node.modified_index
        );
        if let Some(previous) = previous {
            text += &format!("PrevNode.Value: {previous}\n");
        }
        text += &format!("TTL: {}\nIndex: {}\n", node.ttl, self.index);
        if self.action != "delete" {
            text += &format!("\n{}\n", node.value);
        }
        text
    }
}

/// A refusal that is not about keys: by another part of the server, or by something else.
fn refused_otherwise(answer: &Answer) -> Failure {
    let status = answer.status;
    client::expect(answer, &[])
        .err()
        .unwrap_or_else(|| Failure::with_code(4, format!("status {status}")))
}

impl Node {
    fn json(&self) -> String {
        let dir = if self.dir { ",\"dir\":true" } else { "" };
        let nodes = match &self.nodes {
            None => "null".to_owned(),
            Some(nodes) => {
                format!("[{}]", nodes.iter().map(Node::json).collect::<Vec<_>>().join(","))
            }
        };
        let expiration = self
            .expiration
            .as_ref()
            .map_or(String::new(), |time| format!(",\"expiration\":{}", json_string(time)));
        let ttl = if self.ttl == 0 { String::new() } else { format!(",\"ttl\":{}", self.ttl) };
        format!(
            "{{\"key\":{}{dir},\"value\":{},\"nodes\":{nodes},\"createdIndex\":{},\"modifiedIndex\":{}{expiration}{ttl}}}",
            json_string(&self.key),
            json_string(&self.value),
            self.created_index,
            self.modified_index
        )
    }
}

/// Prints at once: a watch goes on behind it.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads has had enough, as `head` has.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::silent(1)),
        other => Ok(other?),
    }
}
