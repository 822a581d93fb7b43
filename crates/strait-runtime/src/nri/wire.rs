//! How NRI speaks: ttrpc in both directions over one socket.
//!
//! A *piece* on the socket is the number of a connection and a length, 32 bits each and the highest byte
//! first, and as many bytes. The pieces of a connection make up a stream of ttrpc messages: a length and
//! the number of the call (32 bits), a type and flags (8 bits), and as many bytes of protobuf. Piece and
//! message need not end together. From `pkg/net/multiplex` of <https://github.com/containerd/nri> and
//! `PROTOCOL.md` of <https://github.com/containerd/ttrpc>.

use std::io::{self, Read, Write};

/// The connection by which the runtime calls the plugin.
pub const TO_PLUGIN: u32 = 1;
/// The connection by which the plugin calls the runtime.
pub const TO_RUNTIME: u32 = 2;
/// The type of a message that is a call.
pub const REQUEST: u8 = 1;
/// The type of a message that is an answer.
pub const RESPONSE: u8 = 2;

/// No message is longer, in bytes: ttrpc's own limit.
pub const LIMIT: usize = 4 << 20;
/// The length of what comes before the bytes of a message.
const HEADER: usize = 10;
/// No piece that is sent is longer, in bytes: the reader on the other side has a buffer of this size, and
/// gives up where a piece is longer than that.
const PIECE: usize = 4096;

/// A message of ttrpc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// By which connection.
    pub connection: u32,
    /// The number of the call.
    pub stream: u32,
    /// [`REQUEST`], [`RESPONSE`], or what is not used here.
    pub kind: u8,
    /// The protobuf message.
    pub payload: Vec<u8>,
}

/// Why there is no next message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The runtime is gone, or does not want the plugin any more.
    #[error("the runtime has closed the connection")]
    Closed,
    /// It is gone in the middle of a message.
    #[error("the runtime has closed the connection in the middle of a message")]
    Truncated,
    /// It says nothing.
    #[error("the runtime does not go on: nothing has come from it in time")]
    Silent,
    /// What it says is none of this.
    #[error("this is not NRI: {0}")]
    Protocol(String),
    /// What is to be sent is too long.
    #[error("a message of {0} bytes is longer than ttrpc lets it be")]
    TooLong(usize),
    /// The socket does not work.
    #[error("the connection to the runtime")]
    Io(#[source] io::Error),
}

/// Puts the messages of two connections together.
#[derive(Debug, Default)]
pub struct Reader {
    streams: [Vec<u8>; 2],
}

impl Reader {
    /// The next message.
    ///
    /// # Errors
    /// If there is none, or nothing comes while a message is not whole (by the socket's time-out). Between
    /// messages silence is [`WireError::Silent`] too, and reading can go on after it.
    pub fn read(&mut self, socket: &mut impl Read) -> Result<Frame, WireError> {
        loop {
            for (stream, connection) in self.streams.iter_mut().zip([TO_PLUGIN, TO_RUNTIME]) {
                if let Some(frame) = take(stream, connection)? {
                    return Ok(frame);
                }
            }
            self.read_piece(socket)?;
        }
    }

    /// Whether a message has begun and is not whole.
    pub fn is_amid(&self) -> bool {
        self.streams.iter().any(|stream| !stream.is_empty())
    }

    fn read_piece(&mut self, socket: &mut impl Read) -> Result<(), WireError> {
        let mut head = [0; 8];
        let first = read_some(socket, &mut head)?;
        if first == 0 {
            return Err(if self.is_amid() { WireError::Truncated } else { WireError::Closed });
        }
        read_whole(socket, &mut head[first..])?;
        let [a, b, c, d, rest @ ..] = head;
        let connection = u32::from_be_bytes([a, b, c, d]);
        let length = u32::from_be_bytes(rest);
        let stream = match connection {
            TO_PLUGIN => &mut self.streams[0],
            TO_RUNTIME => &mut self.streams[1],
            other => {
                return Err(WireError::Protocol(format!("there is no connection {other}")));
            }
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > LIMIT + HEADER {
            return Err(WireError::Protocol(format!("a piece of {length} bytes")));
        }
        // As it comes, so that nobody has memory taken by a number alone.
        let mut left = length;
        let mut buffer = [0; PIECE];
        while left > 0 {
            let part = left.min(PIECE);
            read_whole(socket, &mut buffer[..part])?;
            stream.extend_from_slice(&buffer[..part]);
            left -= part;
        }
        Ok(())
    }
}

/// Sends a message.
///
/// # Errors
/// If that cannot be.
pub fn send(socket: &mut impl Write, frame: &Frame) -> Result<(), WireError> {
    let too_long = || WireError::TooLong(frame.payload.len());
    let length = u32::try_from(frame.payload.len()).map_err(|_| too_long())?;
    if frame.payload.len() > LIMIT {
        return Err(too_long());
    }
    let mut message = Vec::with_capacity(HEADER + frame.payload.len());
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(&frame.stream.to_be_bytes());
    message.extend_from_slice(&[frame.kind, 0]);
    message.extend_from_slice(&frame.payload);
    let mut pieces = Vec::new();
    for piece in message.chunks(PIECE) {
        let length = u32::try_from(piece.len()).map_err(|_| too_long())?;
        pieces.extend_from_slice(&frame.connection.to_be_bytes());
        pieces.extend_from_slice(&length.to_be_bytes());
        pieces.extend_from_slice(piece);
    }
    socket.write_all(&pieces).map_err(failed)
}

/// The first message of a stream, if it is whole.
fn take(stream: &mut Vec<u8>, connection: u32) -> Result<Option<Frame>, WireError> {
    let Some(&[a, b, c, d, e, f, g, h, kind, _]) = stream.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if length > LIMIT {
        return Err(WireError::Protocol(format!("a message of {length} bytes")));
    }
    let Some(payload) = stream.get(HEADER..HEADER + length) else { return Ok(None) };
    let payload = payload.to_vec();
    stream.drain(..HEADER + length);
    Ok(Some(Frame { connection, stream: u32::from_be_bytes([e, f, g, h]), kind, payload }))
}

fn read_whole(socket: &mut impl Read, mut into: &mut [u8]) -> Result<(), WireError> {
    while !into.is_empty() {
        let read = read_some(socket, into).map_err(|error| match error {
            WireError::Silent => {
                WireError::Protocol("nothing comes any more in the middle of a message".to_owned())
            }
            error => error,
        })?;
        if read == 0 {
            return Err(WireError::Truncated);
        }
        into = &mut into[read..];
    }
    Ok(())
}

fn read_some(socket: &mut impl Read, into: &mut [u8]) -> Result<usize, WireError> {
    loop {
        match socket.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
            Ok(read) => return Ok(read),
        }
    }
}

fn failed(error: io::Error) -> WireError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => WireError::Silent,
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => WireError::Closed,
        _ => WireError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(connection: u32, stream: u32, payload: &[u8]) -> Frame {
        Frame { connection, stream, kind: REQUEST, payload: payload.to_vec() }
    }

    #[test]
    fn messages_come_as_they_were_sent_however_they_are_cut() {
        let large = vec![7; 3 * PIECE + 1];
        let frames = [frame(1, 1, b"one"), frame(2, 3, &large), frame(1, 5, b"")];
        let mut sent = Vec::new();
        for frame in &frames {
            send(&mut sent, frame).unwrap();
        }
        assert_eq!(&sent[..18], b"\0\0\0\x01\0\0\0\x0d\0\0\0\x03\0\0\0\x01\x01\0");
        let mut reader = Reader::default();
        let mut socket = sent.as_slice();
        for frame in &frames {
            assert_eq!(&reader.read(&mut socket).unwrap(), frame);
        }
        assert!(matches!(reader.read(&mut socket), Err(WireError::Closed)));
        // What reads on the other side takes no piece that is longer.
        let mut pieces = sent.as_slice();
        while let Some((head, rest)) = pieces.split_first_chunk::<8>() {
            let length = usize::from(head[6]) << 8 | usize::from(head[7]);
            assert!(head[4..6] == [0, 0] && length <= PIECE, "{head:?}");
            pieces = &rest[length..];
        }
        // A message in pieces of one byte, between those of another connection.
        let mut message = Vec::new();
        send(&mut message, &frames[0]).unwrap();
        let cut: Vec<u8> = message[8..]
            .iter()
            .flat_map(|&byte| {
                [&b"\0\0\0\x01\0\0\0\x01"[..], &[byte], b"\0\0\0\x02\0\0\0\0"].concat()
            })
            .collect();
        assert_eq!(Reader::default().read(&mut cut.as_slice()).unwrap(), frames[0]);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let whole = {
            let mut sent = Vec::new();
            send(&mut sent, &frame(1, 1, b"payload")).unwrap();
            sent
        };
        for length in 1..whole.len() {
            let cut = Reader::default().read(&mut &whole[..length]);
            assert!(matches!(cut, Err(WireError::Truncated)), "{length}: {cut:?}");
        }
        // Any byte may be any other: there is a message, or an error, and an end.
        for (at, value) in (0..whole.len()).flat_map(|at| (0..=255).map(move |value| (at, value))) {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let (mut reader, mut socket) = (Reader::default(), bytes.as_slice());
            while reader.read(&mut socket).is_ok() {}
        }
        for wrong in [
            &b"\0\0\0\0\0\0\0\x01x"[..],
            b"\0\0\0\x03\0\0\0\x01x",
            b"\0\0\0\x01\xff\xff\xff\xff",
            b"\0\0\0\x01\0\0\0\x0a\xff\xff\xff\xff\0\0\0\x01\x01\0",
            b"GET / HTTP/1.1\r\n\r\n",
        ] {
            let read = Reader::default().read(&mut &*wrong);
            assert!(matches!(read, Err(WireError::Protocol(_))), "{wrong:?}: {read:?}");
        }
        let huge = frame(1, 1, &vec![0; LIMIT + 1]);
        assert!(matches!(send(&mut Vec::new(), &huge), Err(WireError::TooLong(_))));
    }
}
