//! The tests' double of the Messages API as a process of its own, to try the harness without a key:
//!
//! ```text
//! cargo run --example messages-api-double -- 127.0.0.1:8400
//! ANTHROPIC_BASE_URL=http://127.0.0.1:8400 ANTHROPIC_API_KEY=… harness demo --auto --planner claude
//! ```
//!
//! It prints the two variables as they are to be set. What it plays can repair the demo's service, and hands anything
//! else over.

#[path = "../tests/double/double.rs"]
mod double;

use std::net::SocketAddr;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8400".to_owned()).parse()?;
    let double = double::Double::listen(address, double::operator::Operator, Vec::new()).await;
    println!("ANTHROPIC_BASE_URL={}\nANTHROPIC_API_KEY={}", double.base_url(), double::KEY);
    tokio::signal::ctrl_c().await?;
    for rejection in double.rejections() {
        eprintln!("refused: {rejection}");
    }
    Ok(())
}
