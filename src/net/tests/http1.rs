//! HTTP/1.1 on the same port.

use super::*;

async fn exchange(server: &Server, request: &str) -> String {
    let mut raw = server.raw().await;
    write(&mut raw, request.as_bytes()).await;
    String::from_utf8(read_all(&mut raw).await).unwrap()
}

#[test]
fn requests_are_answered() {
    with_server(Options::default(), async |server| {
        let answer = exchange(
            &server,
            "GET /version HTTP/1.1\r\nhost: a\r\n\r\n\
             POST /v3/kv/put HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody\
             HEAD /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        )
        .await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
        assert!(answer.contains("GET /version 0\n"), "{answer}");
        assert!(answer.contains("POST /v3/kv/put 4\n"), "{answer}");
        assert!(!answer.contains("HEAD /health"), "{answer}");
        assert_eq!(server.connections.statistics().http_requests.get(), 3);
    });
}

#[test]
fn a_request_may_come_byte_by_byte() {
    with_server(Options::default(), async |server| {
        let mut raw = server.raw().await;
        for byte in b"PRINT /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" {
            write(&mut raw, &[*byte]).await;
            glommio::executor().yield_now().await;
        }
        let answer = String::from_utf8(read_all(&mut raw).await).unwrap();
        assert!(answer.ends_with("PRINT /a 0\n"), "{answer}");
    });
}

#[test]
fn what_is_no_http_is_a_bad_request() {
    with_server(Options::default(), async |server| {
        for garbage in [&b"hello\r\n\r\n"[..], b"\x16\x03\x01\0\x05\x01\0\0\x01\x03", b"\0\0\0\0"] {
            let mut raw = server.raw().await;
            write(&mut raw, garbage).await;
            let answer = String::from_utf8(read_all(&mut raw).await).unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        }
        // Nearly HTTP/2.
        let mut raw = server.raw().await;
        write(&mut raw, b"PRI * HTTP/2.0\r\n\r\nSM?").await;
        read_all(&mut raw).await;
        drop(raw);
        until(|| server.connections.statistics().open.get() == 0).await;
    });
}

#[test]
fn a_body_too_large_is_refused() {
    with_server(Options { message_bytes_max: 10, ..Options::default() }, async |server| {
        let answer = exchange(
            &server,
            "POST /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 11\r\n\r\n12345678901",
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    });
}

#[test]
fn a_silent_client_is_closed() {
    let options = Options {
        handshake_timeout: Duration::from_millis(20),
        http1_idle_timeout: Duration::from_millis(20),
        tick: Duration::from_millis(5),
        ..Options::default()
    };
    with_server(options, async |server| {
        for begin in ["", "P", "PRI * HTTP/2", "GET / HTT", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"] {
            let mut raw = server.raw().await;
            write(&mut raw, begin.as_bytes()).await;
            read_all(&mut raw).await;
        }
        until(|| server.connections.statistics().open.get() == 0).await;
        assert_eq!(server.connections.statistics().timeouts.get(), 5);
    });
}

#[test]
fn a_drain_lets_the_request_end() {
    with_server(Options::default(), async |server| {
        let mut idle = server.raw().await;
        write(&mut idle, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut busy = server.raw().await;
        write(&mut busy, b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await;
        until(|| server.connections.statistics().http_requests.get() == 2).await;
        server.connections.drain();
        assert!(read_all(&mut idle).await.ends_with(b"GET / 0\n"));
        server.toy.http_released.set(true);
        assert!(read_all(&mut busy).await.ends_with(b"GET /wait 0\n"));
        drop((idle, busy));
        server.connections.drained().await;
    });
}

#[test]
fn an_answer_comes_in_pieces() {
    let options = Options {
        http1_idle_timeout: Duration::from_millis(20),
        tick: Duration::from_millis(5),
        ..Options::default()
    };
    with_server(options, async |server| {
        let mut raw = server.raw().await;
        write(&mut raw, b"GET /pieces HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let head = read_until(&mut raw, b"\r\n\r\n").await;
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        // Longer than a connection may be idle.
        glommio::timer::sleep(Duration::from_millis(60)).await;
        for nth in 1..=3 {
            server.toy.pieces.set(nth);
            server.toy.piece_wakers.take().into_iter().for_each(std::task::Waker::wake);
            let piece = read_until(&mut raw, b"\n\r\n").await;
            assert_eq!(piece, format!("8\r\npiece {nth}\n\r\n"));
        }
        assert_eq!(server.toy.piece_bodies.get(), 1);

        // A client that goes away is forgotten.
        drop(raw);
        until(|| server.toy.piece_bodies.get() == 0).await;
        until(|| server.connections.statistics().open.get() == 0).await;
    });
}

#[test]
fn a_second_server_is_told_that_the_address_is_in_use() {
    let first = Bound::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = first.local_address().unwrap();
    let error = Bound::bind(address).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {address}: the address is in use")));
    let error = Bound::bind("192.0.2.1:0".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("no such address"), "{error}");
}
