//! `sluice simulate`.

use sluice_whatsapp::wasender::simulator::{SimulatorSettings, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::args::SimulateArgs;
use super::failure::Failure;
use crate::lifecycle;

pub(super) async fn run(args: &SimulateArgs) -> Result<(), Failure> {
    let settings = match &args.settings {
        None => SimulatorSettings::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
            toml::from_str(&text).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?
        }
    };
    let listener = TcpListener::bind(&args.listen)
        .await
        .map_err(|error| Failure::Usage(format!("cannot listen on {}: {error}", args.listen)))?;
    let address = listener.local_addr().map_err(anyhow::Error::from)?;
    println!("simulated Wasender at http://{address}/api");
    println!(
        "sessions, faults and webhooks are set, and what it received is read, at http://{address}/_admin:"
    );
    println!("  curl http://{address}/_admin/sessions");
    println!("  curl http://{address}/_admin/truth");
    let shutdown = CancellationToken::new();
    let signals = tokio::spawn(lifecycle::signals(shutdown.clone()));
    let served = serve(listener, settings, shutdown.cancelled_owned()).await;
    signals.abort();
    Ok(served.map_err(anyhow::Error::from)?)
}
