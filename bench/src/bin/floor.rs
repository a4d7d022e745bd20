//! What relaying costs whoever does it: a server that only receives frames, takes their mask off and sends them on, with one `recv` and one
//! `send` for what is there. No queue, no JSON, no rooms, no bounds. `signal` measures it beside the real ones, so that a figure can be
//! told from what the kernel and tokio take of it. Usage: `floor PORT`.
//!
//! It speaks just enough of our protocol: the first to join a room hears all that the second says.

use std::{cell::RefCell, collections::HashMap, io::Cursor, rc::Rc};

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::Interest,
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{Message, handshake::server::Request, protocol::frame::FrameHeader},
};

/// As much as our server reads at a time.
const BUFFER_BYTES: usize = 4 * 1024;

/// Who listens, by the room.
type Listeners = Rc<RefCell<HashMap<String, Rc<TcpStream>>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let port: u16 = std::env::args().nth(1).context("usage: floor PORT")?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let listeners = Listeners::default();
    LocalSet::new()
        .run_until(async {
            loop {
                let (stream, _) = listener.accept().await?;
                spawn_local(serve(stream, Rc::clone(&listeners)));
            }
        })
        .await
}

async fn serve(stream: TcpStream, listeners: Listeners) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut room = String::new();
    #[allow(clippy::result_large_err, reason = "the library's own type")]
    let callback = |request: &Request, response| {
        room = request.uri().to_string();
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, callback).await?;
    socket.next().await.context("no join")??;
    socket.send(Message::text(r#"{"type":"peers","peerIds":[]}"#)).await?;
    // Nothing is said before the answer has come, so nothing has been read ahead.
    let stream = socket.into_inner();
    let listener = listeners.borrow().get(&room).cloned();
    match listener {
        None => {
            listeners.borrow_mut().insert(room, Rc::new(stream));
            Ok(())
        }
        Some(listener) => relay(&stream, &listener).await,
    }
}

async fn relay(from: &TcpStream, to: &TcpStream) -> Result<()> {
    let (mut read, mut write) = (Vec::new(), Vec::with_capacity(BUFFER_BYTES));
    loop {
        read.reserve(BUFFER_BYTES);
        if from.async_io(Interest::READABLE, || from.try_read_buf(&mut read)).await? == 0 {
            return Ok(());
        }
        let mut done = 0;
        while let Some(length) = unmask(&read[done..], &mut write)? {
            done += length;
        }
        read.drain(..done);
        while !write.is_empty() {
            let sent = to.async_io(Interest::WRITABLE, || to.try_write(&write)).await?;
            write.drain(..sent);
        }
    }
}

/// Writes the first frame without its mask. How long it was; none: it is not whole yet.
fn unmask(bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<usize>> {
    let mut cursor = Cursor::new(bytes);
    let Some((mut header, length)) = FrameHeader::parse(&mut cursor)? else { return Ok(None) };
    let (start, length) = (usize::try_from(cursor.position())?, usize::try_from(length)?);
    let Some(payload) = bytes.get(start..start + length) else { return Ok(None) };
    let mask = header.mask.take().context("clients mask their frames")?;
    header.format(u64::try_from(length)?, out)?;
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Ok(Some(start + length))
}
