//! What `sluice dev` prints when it is ready.

use super::{Dev, SESSIONS, TOKEN, seed};

/// Where everything is, and two lines to paste.
pub(crate) fn text(dev: &Dev) -> String {
    let at = &dev.addresses;
    let (api, first) = (at.api, seed::session_id(1));
    let last = seed::session_id(SESSIONS);
    let message = sluice_schemas::ids::message_id(&first, "hello-1");
    let ready = dev.ready_after.as_secs_f64();
    let kept = match dev.is_on_mock_kafka() {
        true => "Everything it holds is gone when it ends (Ctrl-C).",
        false => "Ctrl-C ends it.",
    };
    format!(
        "\
Sluice dev is ready after {ready:.2} s. {kept}

  API and reads   http://{api}/v1
  webhooks        http://{webhooks}/webhooks/wasender/{{session}}
  admin           http://{admin}/metrics  /livez  /readyz
  Kafka           {kafka}   topics {prefix}*, {partitions} partitions
  registry        {registry}
  provider        {simulator}   truth: {simulator}/truth
  sessions        {first} … {last}, tenant demo
  token           {TOKEN}

Send a message:

  curl -s -X POST http://{api}/v1/sessions/{first}/messages -H 'authorization: Bearer {TOKEN}' \
-H 'content-type: application/json' -H 'idempotency-key: hello-1' -d '{{\"to\":\"+15551234567\",\"text\":\"hi\"}}'

See what became of it (READ after about a second):

  curl -s http://{api}/v1/messages/{message} -H 'authorization: Bearer {TOKEN}'
",
        webhooks = at.webhooks,
        admin = at.admin,
        kafka = at.kafka,
        prefix = dev.deps.settings.kafka.topic_prefix,
        partitions = dev.deps.settings.kafka.partitions,
        registry = at.registry,
        simulator = at.simulator,
    )
}
