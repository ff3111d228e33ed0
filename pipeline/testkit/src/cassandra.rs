//! One node of Apache Cassandra: the CQL server of tests. It speaks the protocol and language of ScyllaDB and runs
//! without a container.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::guard::Guarded;
use crate::maven::{self, Layout};
use crate::port::Port;
use crate::server::{self, Plan, ServerDir};

const POM: &str = include_str!("../poms/cassandra.xml");
const SETTINGS: &str = include_str!("../config/cassandra.yaml");
const LOGBACK: &str = include_str!("../config/logback.xml");
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// What Cassandra 5.0 asks for on Java 17 (its `conf/jvm17-server.options`).
const MODULES: &[&str] = &[
    "--add-exports=java.base/jdk.internal.misc=ALL-UNNAMED",
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-exports=java.management.rmi/com.sun.jmx.remote.internal.rmi=ALL-UNNAMED",
    "--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED",
    "--add-exports=java.rmi/sun.rmi.server=ALL-UNNAMED",
    "--add-exports=java.sql/java.sql=ALL-UNNAMED",
    "--add-exports=jdk.unsupported/sun.misc=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.lang.module=ALL-UNNAMED",
    "--add-opens=java.base/java.lang.reflect=ALL-UNNAMED",
    "--add-opens=java.base/java.math=ALL-UNNAMED",
    "--add-opens=java.base/java.net=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent.atomic=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.loader=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.math=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.module=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.reflect=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.util.jar=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=jdk.management/com.sun.management.internal=ALL-UNNAMED",
];

/// The JVM and Cassandra settings of a throw-away single node: no gossip to wait for, no ring to settle.
const OPTIONS: &[&str] = &[
    "-Xms256m",
    "-Xmx768m",
    "-XX:MaxDirectMemorySize=256m",
    "-XX:+UseSerialGC",
    "-Xss256k",
    "-Djava.awt.headless=true",
    "-Djava.security.manager=allow",
    "-Djdk.attach.allowAttachSelf=true",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dcassandra-foreground=yes",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.ring_delay_ms=1",
    "-Dcassandra.load_ring_state=false",
    "-Dcassandra.superuser_setup_delay_ms=0",
    "-Dcassandra.disable_auth_caches_remote_configuration=true",
];

/// A node of ours, stopped and removed when dropped.
#[derive(Debug)]
pub(crate) struct Cassandra {
    /// Before `dir`, so that it is dead when its files go.
    _process: Guarded,
    _dir: ServerDir,
    port: Port,
    _storage_port: Port,
}

impl Cassandra {
    pub(crate) fn start() -> Result<Self> {
        let jars = jars()?;
        let (port, storage_port) = (Port::reserve()?, Port::reserve()?);
        let dir = ServerDir::new("cassandra")?;
        let settings = dir.path().join("cassandra.yaml");
        let text = SETTINGS
            .replace("@PORT@", &port.number().to_string())
            .replace("@STORAGE_PORT@", &storage_port.number().to_string())
            .replace("@DATA@", &dir.path().join("data").display().to_string());
        std::fs::write(&settings, text)?;
        let logback = dir.path().join("logback.xml");
        std::fs::write(&logback, LOGBACK)?;

        let mut command = vec![maven::java()?.into_os_string()];
        let mut agent = OsString::from("-javaagent:");
        agent.push(jars.join("jamm-0.4.0.jar"));
        command.push(agent);
        command.extend(MODULES.iter().chain(OPTIONS).map(Into::into));
        command.push(format!("-Dcassandra.config=file://{}", settings.display()).into());
        command.push(format!("-Dcassandra.storagedir={}", dir.path().join("data").display()).into());
        command.push(format!("-Dcassandra.logdir={}", dir.path().display()).into());
        command.push(format!("-Dlogback.configurationFile={}", logback.display()).into());
        command.push(format!("-Djava.io.tmpdir={}", dir.path().display()).into());
        command.push("-cp".into());
        command.push(jars.join("*").into_os_string());
        command.push("org.apache.cassandra.service.CassandraDaemon".into());

        let plan = Plan { name: "Cassandra", command, port: port.number(), probe };
        let process = server::start(&plan, &dir)?;
        Ok(Self { _process: process, _dir: dir, port, _storage_port: storage_port })
    }

    /// `host:port` of the native protocol.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }
}

/// The directory with its jars, fetched if need be.
pub(crate) fn jars() -> Result<PathBuf> {
    maven::artifacts("cassandra-5.0.5", POM, Layout::Jars)
}

/// Cassandra serves CQL once it answers OPTIONS (native protocol v4, opcode 5) with SUPPORTED (opcode 6).
fn probe(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), PROBE_LIMIT)?;
    stream.set_read_timeout(Some(PROBE_LIMIT))?;
    stream.set_write_timeout(Some(PROBE_LIMIT))?;
    stream.write_all(&[0x04, 0, 0, 0, 0x05, 0, 0, 0, 0])?;
    let mut head = [0; 9];
    stream.read_exact(&mut head).context("read the answer to OPTIONS")?;
    if head[0] != 0x84 || head[4] != 0x06 {
        bail!("an unexpected answer to OPTIONS");
    }
    Ok(())
}
