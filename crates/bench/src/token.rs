//! Fetches tokens for many users over a few persistent connections.

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::BenchError;

const CONNECTIONS: usize = 4;

/// Returns a token for each of `users`, in their order. The names must not need escapes in a URL.
pub(crate) async fn fetch(address: &str, users: &[String]) -> Result<Vec<String>, BenchError> {
    let share = users.len().div_ceil(CONNECTIONS).max(1);
    let fetched = stream::iter(users.chunks(share)).map(|users| fetch_one_by_one(address, users));
    Ok(fetched.buffered(CONNECTIONS).try_collect::<Vec<_>>().await?.concat())
}

async fn fetch_one_by_one(address: &str, users: &[String]) -> Result<Vec<String>, BenchError> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    stream.get_ref().set_nodelay(true)?;
    let mut tokens = Vec::with_capacity(users.len());
    for user in users {
        let request = format!("GET /dev/token?user={user} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        tokens.push(read_answer(&mut stream).await?);
    }
    Ok(tokens)
}

async fn read_answer(stream: &mut BufReader<TcpStream>) -> Result<String, BenchError> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    if line.split(' ').nth(1) != Some("200") {
        return Err(BenchError::protocol(format!("the request for a token was answered with {:?}", line.trim())));
    }
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| BenchError::protocol("the content-length is not a number"))?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let token = String::from_utf8(body).map_err(|_| BenchError::protocol("a token is not valid UTF-8"))?;
    Ok(token.trim().to_owned())
}
