//! Which origins browsers may let use this member (`--cors`).

use http::{HeaderMap, HeaderValue, header};

/// See the module's page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Those of a list; `*` among them stands for all, as does an empty list.
    #[must_use]
    pub fn new(list: Vec<String>) -> Self {
        Self(if list.iter().any(|origin| origin == "*") { Vec::new() } else { list })
    }

    /// What a request's answer says of it: as etcd, the same to everybody where all are allowed.
    fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        if self.0.is_empty() {
            return Some(HeaderValue::from_static("*"));
        }
        let origin = request.get(header::ORIGIN)?;
        self.0.iter().any(|known| known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }

    /// The header fields of an answer to a request, if its origin is allowed.
    pub(super) fn fields(
        &self,
        request: &HeaderMap,
    ) -> impl Iterator<Item = (http::HeaderName, HeaderValue)> {
        let origin = self.allowed(request);
        origin.into_iter().flat_map(|origin| {
            [
                (
                    header::ACCESS_CONTROL_ALLOW_METHODS,
                    HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
                ),
                (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin),
                (
                    header::ACCESS_CONTROL_ALLOW_HEADERS,
                    HeaderValue::from_static("accept, content-type, authorization"),
                ),
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(list: &[&str], origin: Option<&'static str>) -> Option<HeaderValue> {
        let mut headers = HeaderMap::new();
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        let origins = Origins::new(list.iter().map(|origin| (*origin).to_owned()).collect());
        let fields: Vec<_> = origins.fields(&headers).collect();
        assert!([0, 3].contains(&fields.len()));
        fields.into_iter().nth(1).map(|(_, value)| value)
    }

    #[test]
    fn origins_are_allowed_as_the_list_says() {
        assert_eq!(allowed(&[], None).unwrap(), "*");
        assert_eq!(allowed(&["http://a:1", "*"], Some("http://b:1")).unwrap(), "*");
        assert_eq!(allowed(&["http://a:1"], Some("http://a:1")).unwrap(), "http://a:1");
        assert_eq!(allowed(&["http://a:1"], Some("http://b:1")), None);
        assert_eq!(allowed(&["http://a:1"], None), None);
    }
}
