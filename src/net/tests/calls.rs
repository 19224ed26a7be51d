//! Calls as gRPC clients make them.

use super::*;
use crate::net::options::QUEUED_BYTES_MAX;

#[test]
fn a_unary_call_is_answered() {
    with_server(Options::default(), async |server| {
        let client = server.client().await;
        for message in [&b""[..], b"hello", &[5; 5000]] {
            let answer = client.call(PUT, message).await;
            assert_eq!(answer.http, 200);
            assert_eq!(answer.headers["content-type"], "application/grpc");
            assert_eq!(answer.messages(), [message]);
            assert_eq!(answer.status(), (0, ""));
        }
        let statistics = server.connections.statistics().method(Method::Put);
        assert_eq!(
            (statistics.started, statistics.messages_sent, statistics.handled[0]),
            (3, 3, 3)
        );
        assert_eq!(server.connections.statistics().calls_open.get(), 0);
    });
}

#[test]
fn a_request_in_pieces_is_assembled() {
    with_server(Options::default(), async |server| {
        let client = server.client().await;
        let message: Vec<u8> = (0..1_500_000u32).map(|i| i as u8).collect();
        let whole = frame(&message);
        for sizes in [&[1, 3, 1, 1][..], &[0, 5, 100], &[300_000, 0, 16_384], &[1_500_005, 0]] {
            let mut rest = whole.clone();
            let mut pieces: Vec<Bytes> = sizes.iter().map(|size| rest.split_to(*size)).collect();
            pieces.push(rest);
            let answer = client.exchange(request(PUT), &pieces).await.unwrap();
            assert_eq!(answer.status(), (0, ""));
            assert!(answer.messages() == [&message[..]]);
        }
    });
}

#[test]
fn answers_that_come_later_and_out_of_order_reach_their_streams() {
    with_server(Options::default(), async |server| {
        // Two hundred small answers in one piece are a flood to `h2`'s client by default.
        let mut builder = h2::client::Builder::new();
        builder.data_frame_budget(1 << 20);
        let client = server.client_with(&builder).await;
        let tasks: Vec<_> = (0..200)
            .map(|_| {
                let client = client.clone();
                glommio::spawn_local(async move { client.call(RANGE, b"").await })
            })
            .collect();
        until(|| server.toy.held.borrow().len() == 200).await;
        assert_eq!(server.connections.statistics().calls_open.get(), 200);
        let mut held = std::mem::take(&mut *server.toy.held.borrow_mut());
        // Streams are accepted in the order of their ids, which is that of the tasks.
        for (index, reply) in held.drain(..).enumerate().collect::<Vec<_>>().into_iter().rev() {
            reply.unary(encoded(index.to_string().as_bytes()));
        }
        for (index, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.messages(), [index.to_string().as_bytes()]);
        }
        assert_eq!(server.connections.statistics().calls_open.get(), 0);
    });
}

#[test]
fn a_status_comes_alone_and_percent_encoded() {
    with_server(Options::default(), async |server| {
        let client = server.client().await;
        let answer = client.call(COMPACT, b"").await;
        assert_eq!(answer.status(), (11, "100%25 comp%C3%A4cted"));
        assert!(answer.trailers.is_empty(), "headers and nothing else");
        assert_eq!(answer.http, 200);
    });
}

#[test]
fn a_call_that_the_service_drops_is_an_internal_error() {
    with_server(Options::default(), async |server| {
        let client = server.client().await;
        assert_eq!(client.call(HASH, b"").await.status().0, 13);
        assert_eq!(server.connections.statistics().method(Method::Hash).handled[13], 1);
    });
}

#[test]
fn malformed_requests_get_a_status_and_the_connection_lives() {
    with_server(Options { message_bytes_max: 1000, ..Options::default() }, async |server| {
        let client = server.client().await;
        let good = frame(b"good");
        let cases: Vec<(http::request::Builder, Vec<Bytes>, u16, &str)> = vec![
            (
                request("/etcdserverpb.KV/Nope"),
                vec![good.clone()],
                12,
                "unknown method Nope for service etcdserverpb.KV",
            ),
            (request("/a.B/Nope"), vec![good.clone()], 12, "unknown service a.B"),
            (request("/"), vec![good.clone()], 12, "malformed method name: \"/\""),
            (
                request(PUT).header("grpc-encoding", "gzip"),
                vec![good.clone()],
                12,
                "grpc: Decompressor is not installed for grpc-encoding \"gzip\"",
            ),
            (request(PUT), vec![], 13, "grpc: no request message in the call"),
            (request(PUT), vec![good.slice(..7)], 13, "unexpected EOF"),
            (
                request(PUT),
                vec![good.clone(), good.clone()],
                13,
                "grpc: more than one request message in the call",
            ),
            (
                request(PUT),
                vec![Bytes::from_static(b"\x01\0\0\0\0")],
                13,
                "grpc: compressed flag set with identity or empty encoding",
            ),
            (
                request(PUT),
                vec![frame(&[0; 1001])],
                8,
                "grpc: received message larger than max (1001 vs. 1000)",
            ),
            (
                request(PUT).header("grpc-timeout", "5 parsecs"),
                vec![good.clone()],
                13,
                "malformed grpc-timeout: \"5 parsecs\"",
            ),
        ];
        for (request, pieces, code, text) in cases {
            let answer = client.exchange(request, &pieces).await.unwrap();
            assert_eq!(answer.status(), (code, text));
        }
        assert_eq!(server.toy.taken.get(), 0, "none of them reached the service");
        assert_eq!(client.call(PUT, b"good").await.messages(), [b"good"]);
        assert_eq!(server.connections.statistics().accepted.get(), 1);
    });
}

#[test]
fn a_message_too_large_is_refused_by_its_head() {
    with_server(Options::default(), async |server| {
        let client = server.client().await;
        let mut send = client.send.clone().ready().await.unwrap();
        let (response, mut body) =
            send.send_request(request(PUT).body(()).unwrap(), false).unwrap();
        // The request does not end, and need not.
        body.send_data(Bytes::from_static(b"\0\xff\xff\xff\xff"), false).unwrap();
        let answer = collect(response).await.unwrap();
        assert_eq!(answer.status().0, 8);
    });
}

#[test]
fn requests_that_are_not_grpc() {
    with_server(Options::default(), async |server| {
        let client = server.client().await;
        let plain = |method: &str, path: &str| {
            Request::builder().method(method).uri(format!("http://test{path}"))
        };
        let answer = client.exchange(plain("GET", "/version"), &[]).await.unwrap();
        assert_eq!((answer.http, &answer.body[..]), (200, &b"GET /version 0\n"[..]));
        let pieces = [Bytes::from_static(b"ab"), Bytes::from_static(b"cd")];
        let answer = client.exchange(plain("POST", "/v3/kv/put"), &pieces).await.unwrap();
        assert_eq!((answer.http, &answer.body[..]), (200, &b"POST /v3/kv/put 4\n"[..]));
        let answer = client.exchange(plain("HEAD", "/version"), &[]).await.unwrap();
        assert_eq!((answer.http, &answer.body[..]), (200, &b""[..]));
        let answer = client.exchange(plain("POST", PUT), &[frame(b"")]).await.unwrap();
        assert_eq!(answer.http, 415);
        let get = request(PUT).method("GET");
        let answer = client.exchange(get, &[]).await.unwrap();
        assert_eq!((answer.http, answer.status().0), (405, 13));
        assert_eq!(server.toy.taken.get(), 0);
    });
}

#[test]
fn a_deadline_answers_for_the_service() {
    with_server(Options::default(), async |server| {
        let client = server.client().await;
        let call = request(RANGE).header("grpc-timeout", "20m");
        let answer = client.exchange(call, &[frame(b"")]).await.unwrap();
        assert_eq!(answer.status(), (4, "context deadline exceeded"));

        let reply = server.toy.held.borrow_mut().pop_front().unwrap();
        assert!(reply.cancelled());
        assert_eq!(server.connections.statistics().calls_open.get(), 1);
        reply.unary(encoded(b"too late"));
        assert_eq!(server.connections.statistics().calls_open.get(), 0);
        assert_eq!(server.connections.statistics().method(Method::Range).handled[4], 1);

        // One that has passed already never reaches the service, and one far off changes nothing.
        let call = request(RANGE).header("grpc-timeout", "0n");
        assert_eq!(client.exchange(call, &[frame(b"")]).await.unwrap().status().0, 4);
        assert_eq!(server.toy.taken.get(), 1);
        let call = request(PUT).header("grpc-timeout", "99999999H");
        assert_eq!(client.exchange(call, &[frame(b"")]).await.unwrap().status().0, 0);
    });
}

#[test]
fn a_deadline_ends_a_request_that_is_not_whole() {
    let options = Options { body_timeout: Duration::from_millis(20), ..Options::default() };
    with_server(options, async |server| {
        let client = server.client().await;
        for call in [request(PUT), request(PUT).header("grpc-timeout", "20m")] {
            let mut send = client.send.clone().ready().await.unwrap();
            let (response, mut body) = send.send_request(call.body(()).unwrap(), false).unwrap();
            body.send_data(frame(b"hello").slice(..3), false).unwrap();
            assert_eq!(collect(response).await.unwrap().status().0, 4);
        }
        assert_eq!(client.call(PUT, b"hello").await.status().0, 0);
        assert_eq!(server.toy.taken.get(), 1);
    });
}

#[test]
fn a_cancelled_call_says_so() {
    with_server(Options::default(), async |server| {
        let client = server.client().await;
        let mut send = client.send.clone().ready().await.unwrap();
        let (response, mut body) =
            send.send_request(request(RANGE).body(()).unwrap(), false).unwrap();
        body.send_data(frame(b""), true).unwrap();
        until(|| !server.toy.held.borrow().is_empty()).await;
        let reply = server.toy.held.borrow_mut().pop_front().unwrap();
        assert!(!reply.cancelled());
        body.send_reset(h2::Reason::CANCEL);
        until(|| reply.cancelled()).await;
        reply.unary(encoded(b"for nobody"));
        assert!(collect(response).await.is_err());
        assert_eq!(server.connections.statistics().method(Method::Range).handled[1], 1);
    });
}

#[test]
fn a_closed_connection_cancels_its_calls() {
    with_server(Options::default(), async |server| {
        let mut raw = server.raw().await;
        write(&mut raw, &hostile::preface()).await;
        write(&mut raw, &hostile::call(1, RANGE, b"")).await;
        until(|| !server.toy.held.borrow().is_empty()).await;
        let reply = server.toy.held.borrow_mut().pop_front().unwrap();
        assert!(!reply.cancelled());
        drop(raw);
        until(|| reply.cancelled()).await;
        until(|| server.connections.statistics().open.get() == 0).await;
        reply.unary(encoded(b"for nobody"));
        assert_eq!(server.connections.statistics().calls_open.get(), 0);
    });
}

#[test]
fn a_stream_is_answered_as_the_caller_takes_it() {
    with_server(Options::default(), async |server| {
        // So that one stream's window does not exhaust the connection's.
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(1 << 20);
        let client = server.client_with(&builder).await;
        let answer = client.call(RANGE_STREAM, b"300").await;
        assert_eq!(answer.messages().len(), 300);
        assert_eq!(answer.status().0, 0);
        assert_eq!(client.call(RANGE_STREAM, b"0").await.status().0, 0);

        // A caller that takes nothing stops the stream after what may be queued.
        server.toy.streamed.set(0);
        let mut send = client.send.clone().ready().await.unwrap();
        let (response, mut body) =
            send.send_request(request(RANGE_STREAM).body(()).unwrap(), false).unwrap();
        body.send_data(frame(b"10000"), true).unwrap();
        let response = response.await.unwrap();
        // Another call goes through meanwhile.
        assert_eq!(client.call(PUT, b"hello").await.messages(), [b"hello"]);
        // One message more than the window lets pass.
        assert!(server.toy.streamed.get() * 10_000 <= 65_535 + 20_000);
        drop((response, body));
        until(|| server.toy.stream_cancelled.get() == 1).await;
        assert_eq!(server.connections.statistics().calls_open.get(), 0);
    });
}

#[test]
fn a_stream_with_nothing_to_send_learns_that_its_caller_went() {
    with_server(Options::default(), async |server| {
        let client = server.client().await;
        let mut send = client.send.clone().ready().await.unwrap();
        let (response, mut body) =
            send.send_request(request(WATCH).body(()).unwrap(), false).unwrap();
        body.send_data(frame(b""), true).unwrap();
        let response = response.await.unwrap();
        let mut stream = server.toy.watches.borrow_mut().pop().unwrap();
        let cancelled = std::future::poll_fn(move |context| stream.poll_cancelled(context));
        let cancelled = glommio::spawn_local(async move { drop((cancelled.await, response)) });
        body.send_reset(h2::Reason::CANCEL);
        cancelled.await;

        let call = request(WATCH).header("grpc-timeout", "20m");
        let answer = client.exchange(call, &[frame(b"")]).await.unwrap();
        assert_eq!(answer.status().0, 4);
        let mut stream = server.toy.watches.borrow_mut().pop().unwrap();
        std::future::poll_fn(|context| stream.poll_cancelled(context)).await;
    });
}

#[test]
fn large_answers_wait_in_bounded_memory_for_a_slow_reader() {
    with_server(Options::default(), async |server| {
        // A window of 64 KiB, and nothing is read until all has been asked for.
        let slow = server.client().await;
        let mut responses = Vec::new();
        for _ in 0..20 {
            let mut send = slow.send.clone().ready().await.unwrap();
            let (response, mut body) =
                send.send_request(request(TXN).body(()).unwrap(), false).unwrap();
            body.send_data(frame(b"1048576"), true).unwrap();
            responses.push(response);
            // In turns of their own, so that the bound is looked at between them.
            let received = server.connections.statistics().received_bytes.get();
            until(|| server.connections.statistics().received_bytes.get() > received).await;
        }
        let other = server.client().await;
        assert_eq!(other.call(PUT, b"hello").await.messages(), [b"hello"]);
        let taken = server.toy.taken.get() - 1;
        assert!(taken <= QUEUED_BYTES_MAX / 1_048_576 + 1, "{taken} answers of 1 MiB are queued");

        // All at once: they share the connection's window.
        let tasks: Vec<_> = responses.into_iter().map(collect).map(glommio::spawn_local).collect();
        for task in tasks {
            let answer = task.await.unwrap();
            assert_eq!((answer.status().0, answer.body.len()), (0, 1_048_576 + 5));
        }
        assert_eq!(server.toy.taken.get(), 21);
    });
}

#[test]
fn a_stream_waits_while_too_much_is_queued_on_its_connection() {
    with_server(Options::default(), async |server| {
        let client = server.client().await;
        let mut send = client.send.ready().await.unwrap();
        let mut ask = |path, message: &[u8]| {
            let (response, mut body) =
                send.send_request(request(path).body(()).unwrap(), false).unwrap();
            body.send_data(frame(message), true).unwrap();
            response
        };
        let watch = ask(WATCH, b"").await.unwrap();
        let mut stream = server.toy.watches.borrow_mut().pop().unwrap();
        std::future::poll_fn(|context| stream.poll_ready(context)).await.unwrap();

        let large = ask(TXN, (QUEUED_BYTES_MAX + 1_000_000).to_string().as_bytes());
        until(|| server.toy.taken.get() == 2).await;
        let is_ready = futures_lite::future::poll_once(std::future::poll_fn(|context| {
            stream.poll_ready(context)
        }));
        assert!(is_ready.await.is_none());

        let large = glommio::spawn_local(collect(large));
        std::future::poll_fn(|context| stream.poll_ready(context)).await.unwrap();
        stream.finish(Status::OK);
        assert_eq!(large.await.unwrap().status().0, 0);
        drop(watch);
    });
}

#[test]
fn a_drain_answers_what_is_under_way_and_closes() {
    with_server(Options::default(), async |server| {
        let client = server.client().await;
        let idle = server.client().await;
        assert_eq!(idle.call(PUT, b"hello").await.status().0, 0);
        let caller = client.clone();
        let call = glommio::spawn_local(async move { caller.call(RANGE, b"").await });
        until(|| !server.toy.held.borrow().is_empty()).await;

        server.connections.drain();
        until(|| server.connections.statistics().open.get() == 1).await;
        until(|| idle.ended.borrow().is_some()).await;
        server.toy.answer_held(b"last");
        assert_eq!(call.await.messages(), [b"last"]);
        drop(client);
        server.connections.drained().await;

        // Late comers are closed at once.
        assert_eq!(read_all(&mut server.raw().await).await, b"");
    });
}

#[test]
fn an_abort_closes_without_answers() {
    with_server(Options::default(), async |server| {
        let client = server.client().await;
        let call =
            glommio::spawn_local(
                async move { client.exchange(request(RANGE), &[frame(b"")]).await },
            );
        until(|| !server.toy.held.borrow().is_empty()).await;
        server.connections.drain();
        server.connections.abort();
        server.connections.drained().await;
        assert!(call.await.is_err());
    });
}

/// Requests of a call that streams them come one by one, in pieces of any size, and the caller may go on after answers.
#[test]
fn a_stream_of_requests_is_taken_apart() {
    with_server(Options::default(), async |server| {
        let client = server.client().await;
        let mut send = client.send.clone().ready().await.unwrap();
        let (response, mut body) =
            send.send_request(request(STREAM).body(()).unwrap(), false).unwrap();
        let all = [frame(b"one"), frame(b""), frame(&[7; 40_000])].concat();
        for piece in all.chunks(9_000) {
            body.send_data(Bytes::copy_from_slice(piece), false).unwrap();
            glommio::executor().yield_now().await;
        }
        let (_, mut recv) = response.await.unwrap().into_parts();
        let mut echoed = Vec::new();
        while echoed.len() < all.len() {
            let chunk = recv.data().await.unwrap().unwrap();
            recv.flow_control().release_capacity(chunk.len()).unwrap();
            echoed.extend_from_slice(&chunk);
        }
        assert!(echoed == all);
        body.send_data(frame(b"last"), true).unwrap();
        let last = recv.data().await.unwrap().unwrap();
        assert_eq!(last, frame(b"last"));
        assert!(recv.data().await.is_none());
        assert_eq!(recv.trailers().await.unwrap().unwrap().get("grpc-status").unwrap(), "0");
    });
}

#[test]
fn a_malformed_request_ends_its_stream_with_a_status() {
    with_server(Options::default(), async |server| {
        let client = server.client().await;
        let bad = Bytes::from_static(&[1, 0, 0, 0, 0]);
        let answer = client.exchange(request(STREAM), &[frame(b"good"), bad]).await.unwrap();
        assert_eq!(answer.messages(), [b"good"]);
        assert_eq!(answer.status().0, Code::Internal as u16);
        assert_eq!(client.call(PUT, b"hello").await.status().0, 0);
        assert_eq!(server.connections.statistics().calls_open.get(), 0);
    });
}
