//! A name server on loopback, over UDP and TCP, that answers as a test says.
#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) enum Family {
    /// IPv4, for this name for the n-th time.
    V4 {
        asked: usize,
    },
    V6,
}

/// What is answered. Where the family is another than that of the addresses, there are none.
#[derive(Clone)]
pub(crate) enum Answer {
    V4(Vec<Ipv4Addr>),
    V6(Vec<Ipv6Addr>),
    /// Over UDP: too long. Over TCP, these.
    Truncated(Vec<Ipv4Addr>),
    Alias(&'static str),
    Empty,
    NoSuchName,
    ServerFailure,
    Late(Duration, Box<Answer>),
    Nothing,
}

/// A name server. It lives as long as the test's runtime.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

/// What is answered to a message, and whether it asks for IPv4.
type Scripted = Arc<dyn Fn(&[u8]) -> (Answer, bool) + Send + Sync>;

impl NameServer {
    pub(crate) async fn start(script: impl Fn(&str, Family) -> Answer + Send + Sync + 'static) -> Self {
        let (listener, socket) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            // The same port, unless somebody else has it.
            if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
                break (listener, Arc::new(socket));
            }
        };
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(HashMap::new()));
        let counts = Arc::clone(&asked);
        let scripted: Scripted = Arc::new(move |query| {
            let (name, is_v4) = question(query);
            let family = if is_v4 {
                let mut counts = counts.lock().unwrap();
                let asked = counts.entry(name.clone()).and_modify(|count| *count += 1).or_insert(1);
                Family::V4 { asked: *asked }
            } else {
                Family::V6
            };
            (script(&name, family), is_v4)
        });
        let over_tcp = Arc::clone(&scripted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&over_tcp)));
            }
        });
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                let (query, socket) = (buffer[..length].to_vec(), Arc::clone(&socket));
                let (answer, is_v4) = scripted(&query);
                tokio::spawn(async move {
                    if let Some(message) = reply(&query, is_v4, answer, true).await {
                        let _ = socket.send_to(&message, peer).await;
                    }
                });
            }
        });
        Self { address, asked }
    }

    /// How often it was asked for the IPv4 addresses of a name.
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

async fn serve(mut stream: TcpStream, scripted: Scripted) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; usize::from(length)];
        stream.read_exact(&mut query).await.unwrap();
        let (answer, is_v4) = scripted(&query);
        let Some(message) = reply(&query, is_v4, answer, false).await else { continue };
        let _ = stream.write_u16(u16::try_from(message.len()).unwrap()).await;
        let _ = stream.write_all(&message).await;
    }
}

/// The name, and whether its IPv4 addresses are asked for.
fn question(query: &[u8]) -> (String, bool) {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] > 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    (labels.join("."), query[at + 1..at + 3] == [0, 1])
}

/// RFC 1035 by hand: the header, the question as it came, and the answers.
async fn reply(query: &[u8], is_v4: bool, answer: Answer, over_udp: bool) -> Option<Vec<u8>> {
    let answer = match answer {
        Answer::Late(delay, answer) => {
            tokio::time::sleep(delay).await;
            *answer
        }
        answer => answer,
    };
    let v4 = |addresses: Vec<Ipv4Addr>| addresses.iter().map(|it| (1, it.octets().to_vec())).collect();
    let (flags, code, records): (u8, u8, Vec<(u8, Vec<u8>)>) = match answer {
        Answer::Truncated(_) if over_udp => (0x83, 0, Vec::new()),
        Answer::V4(addresses) | Answer::Truncated(addresses) if is_v4 => (0x81, 0, v4(addresses)),
        Answer::V6(addresses) if !is_v4 => (0x81, 0, addresses.iter().map(|it| (28, it.octets().to_vec())).collect()),
        Answer::Alias(name) => (0x81, 0, vec![(5, encoded(name))]),
        Answer::V4(_) | Answer::V6(_) | Answer::Truncated(_) | Answer::Empty => (0x81, 0, Vec::new()),
        Answer::NoSuchName => (0x81, 3, Vec::new()),
        Answer::ServerFailure => (0x81, 2, Vec::new()),
        Answer::Nothing | Answer::Late(..) => return None,
    };
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let count = u8::try_from(records.len()).unwrap();
    let mut message = vec![query[0], query[1], flags, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
    message.extend_from_slice(&query[12..end]);
    for (kind, data) in records {
        // The name of the question, a record of the Internet, to be forgotten at once.
        message.extend_from_slice(&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 0, 0, u8::try_from(data.len()).unwrap()]);
        message.extend_from_slice(&data);
    }
    Some(message)
}

fn encoded(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat());
    labels.chain([0]).collect()
}
