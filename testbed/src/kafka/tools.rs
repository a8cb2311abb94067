//! Kafka's own tools, which are code that is not ours: to read what was written, to load a broker, and to change users.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::{Kafka, KafkaUser, Listener};
use crate::binaries::Binary;
use crate::certificates::write_secret;
use crate::process::Program;

/// Starts in a second instead of two, and is slow from then on.
const SHORT: [&str; 3] = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m"];
const LONG: [&str; 2] = ["-XX:+UseSerialGC", "-Xmx512m"];
const LOAD: &str = "org.apache.kafka.tools.ProducerPerformance";

// === impl Kafka ===

impl Kafka {
    /// Runs one of Kafka's tools in the broker's folder, and answers what it wrote to stdout. The `command` is what follows
    /// `java`: options of the machine, the class, such as `org.apache.kafka.tools.TopicCommand`, and its own arguments.
    pub async fn tool(&self, command: &[&str]) -> Result<String> {
        self.java(&SHORT, command).await
    }

    /// The first `count` records of `topic`, as Kafka's console consumer prints them: partition, headers, key and value,
    /// separated by tabs, one record a line.
    pub async fn console_consumer(&self, topic: &str, count: usize) -> Result<Vec<String>> {
        let (address, count) = (self.address(Listener::Plain), count.to_string());
        let mut command = vec!["org.apache.kafka.tools.consumer.ConsoleConsumer", "--from-beginning"];
        command.extend(["--bootstrap-server", &*address, "--topic", topic]);
        command.extend(["--max-messages", &*count, "--timeout-ms", "20000"]);
        for property in ["print.partition=true", "print.headers=true", "print.key=true"] {
            command.extend(["--property", property]);
        }
        let text = self.tool(&command).await?;
        Ok(text.lines().map(ToOwned::to_owned).collect())
    }

    /// Kafka's own load tool: writes `count` records of `size` bytes as fast as they go through the plain listener, with the
    /// producer's properties `settings`, and answers its report.
    pub async fn producer_performance(
        &self,
        topic: &str,
        count: u64,
        size: usize,
        settings: &[&str],
    ) -> Result<String> {
        let bootstrap = format!("bootstrap.servers={}", self.address(Listener::Plain));
        let (count, size) = (count.to_string(), size.to_string());
        let mut command = vec![LOAD, "--topic", topic];
        command.extend(["--num-records", &*count, "--record-size", &*size, "--throughput", "-1"]);
        command.extend(["--producer-props", &*bootstrap]);
        command.extend(settings);
        self.java(&LONG, &command).await
    }

    /// The same tool as a program of its own in `folder`, whose records are lines of `payloads`. The producer's properties
    /// in `settings` say how to connect.
    pub fn load_program(
        &self,
        topic: &str,
        count: u64,
        payloads: &Path,
        settings: &[(&str, String)],
        folder: &Path,
    ) -> Result<Program> {
        let properties = folder.join("producer.properties");
        let lines: Vec<_> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        write_secret(&properties, &lines.join("\n"))?;
        let mut arguments: Vec<_> = LONG.map(str::to_owned).into();
        arguments.extend([
            "-cp".to_owned(),
            format!("{}/*", Binary::Kafka.path()?.display()),
            LOAD.to_owned(),
        ]);
        let [payloads, properties] = [payloads, &properties].map(|path| path.display().to_string());
        let count = count.to_string();
        let what = ["--topic", topic, "--num-records", &count, "--throughput", "-1"];
        let how = ["--payload-file", &payloads, "--producer.config", &properties];
        arguments.extend(what.into_iter().chain(how).map(str::to_owned));
        let log = folder.join("load.log");
        Ok(Program { path: "java".into(), arguments, folder: folder.to_owned(), log })
    }

    /// From now on `user` has this password for SCRAM-SHA-512. PLAIN and the token endpoint keep the old one.
    pub async fn set_password(&self, user: &str, password: &str) -> Result<()> {
        let address = self.address(Listener::Plain);
        let credentials = format!("SCRAM-SHA-512=[password={password}]");
        let mut command = vec!["kafka.admin.ConfigCommand", "--bootstrap-server", &*address, "--alter"];
        command.extend(["--add-config", &*credentials, "--entity-type", "users", "--entity-name", user]);
        self.tool(&command).await.map(drop)
    }

    /// From now on `user` may write to `topic`.
    pub async fn allow_writing(&self, user: &str, topics: &[&str]) -> Result<()> {
        let (address, principal) = (self.address(Listener::Plain), format!("User:{user}"));
        let mut command = vec!["org.apache.kafka.tools.AclCommand", "--bootstrap-server", &*address, "--add"];
        command.extend(["--allow-principal", &*principal, "--operation", "Write", "--operation", "Describe"]);
        for topic in topics {
            command.extend(["--topic", topic]);
        }
        self.tool(&command).await.map(drop)
    }

    /// What the users may do that may not do everything.
    pub(super) async fn grant(&self) -> Result<()> {
        for KafkaUser { name, write, .. } in &self.users {
            let topics: Vec<_> = write.iter().flatten().map(String::as_str).collect();
            if !topics.is_empty() {
                self.allow_writing(name, &topics).await?;
            }
        }
        Ok(())
    }

    async fn java(&self, machine: &[&str], arguments: &[&str]) -> Result<String> {
        let jars = Binary::Kafka.path()?;
        let mut command = Command::new("java");
        command.args(machine).arg("-cp").arg(format!("{}/*", jars.display())).args(arguments);
        // In its folder, so that whoever sweeps it finds what was left behind.
        command.current_dir(self.folder()).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.context("run java")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("java {arguments:?} failed:\n{text}{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(text)
    }
}
