//! Makes the provider calls the state machine decided on: each in a task of its own, its result on a channel.

use std::collections::HashMap;
use std::sync::Arc;

use sluice_core::outcome::{CallResult, Outcome};
use sluice_core::sender::{Call, CallId, Input};
use sluice_kafka::clock;
use sluice_schemas::{Connection, ErrorClass, Provider, SendError};
use sluice_whatsapp::client::{Client, Target};
use sluice_whatsapp::connector::{Credential, HttpCall, LookedUp, SendContext};
use sluice_whatsapp::{Connector, Registry as Connectors};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::directory::Directory;
use crate::telemetry::metrics::Metrics;

/// Makes calls.
pub(super) struct Caller {
    client: Client,
    connectors: Connectors,
    directory: Directory,
    metrics: Arc<Metrics>,
    /// By session and credential; emptied when the directory changes.
    targets: HashMap<(Arc<str>, bool), Arc<Target>>,
    results: mpsc::UnboundedSender<Input>,
}

impl Caller {
    /// A caller and the channel of its results. The calls under way bound the channel.
    pub(super) fn new(
        client: Client,
        connectors: Connectors,
        directory: Directory,
        metrics: Arc<Metrics>,
    ) -> (Self, mpsc::UnboundedReceiver<Input>) {
        let (results, receiver) = mpsc::unbounded_channel();
        (Self { client, connectors, directory, metrics, targets: HashMap::new(), results }, receiver)
    }

    /// Something in the directory changed: credentials are looked up anew.
    pub(super) fn forget_targets(&mut self) {
        self.targets.clear();
    }

    /// Makes a call; its result comes on the channel.
    pub(super) fn call(&mut self, call: Box<Call>) {
        match self.prepare(&call) {
            Ok(prepared) => self.spawn(call, prepared),
            Err(result) => self.answer(call.id, *result),
        }
    }

    /// Puts an input into the results, to be stepped after what is being stepped now.
    pub(super) fn tell(&self, input: Input) {
        let _ = self.results.send(input);
    }

    fn answer(&self, call: CallId, result: CallResult) {
        // The pump is the only receiver; without it nobody wants to know.
        let _ = self.results.send(Input::Called { call, result });
    }

    fn prepare(&mut self, call: &Call) -> Result<Prepared, Box<CallResult>> {
        let gone = || {
            refused(
                Outcome::SessionDown { connection: Connection::Unknown },
                "session_unknown",
                "the session or its connector is not there",
            )
        };
        let session = self.directory.session(&call.session_id).ok_or_else(gone)?;
        let connector = self.connectors.get(session.provider).ok_or_else(gone)?.clone();
        let context = SendContext {
            recipient: call.recipient.to_string(),
            provider_session_id: session.provider_session_id.as_deref().map(str::to_owned),
            message_id: call.message_id.to_string(),
            reply_to_provider_id: call.reply_to_provider_id.clone(),
            target_provider_id: call.target_provider_id.clone(),
            target_whatsapp_id: None,
        };
        let http = connector
            .build(&call.command, &context)
            .map_err(|error| refused(Outcome::Permanent, error.code, &error.detail))?;
        let target = self.target(&call.session_id, connector.as_ref(), &http)?;
        Ok(Prepared { connector, target, http })
    }

    fn target(
        &mut self,
        session_id: &Arc<str>,
        connector: &dyn Connector,
        call: &HttpCall,
    ) -> Result<Arc<Target>, Box<CallResult>> {
        let of_account = call.credential == Credential::AccountToken;
        if let Some(target) = self.targets.get(&(session_id.clone(), of_account)) {
            return Ok(target.clone());
        }
        let down = |code: &'static str, detail: &str| {
            refused(Outcome::SessionDown { connection: Connection::Unknown }, code, detail)
        };
        let account = self
            .directory
            .session(session_id)
            .and_then(|session| self.directory.account(&session.account_id))
            .ok_or_else(|| down("account_unknown", "the session's account is not there; put it"))?;
        let name = if of_account { "personal_token" } else { "api_key" };
        let secret = self.directory.secret(session_id, name).ok_or_else(|| {
            down(
                "credential_missing",
                &format!("neither the session nor its account has a readable secret {name}"),
            )
        })?;
        let secret = sluice_whatsapp::secret::Secret::new(secret.expose());
        let target = Target::new(&account.record.base_url, connector.auth_scheme(), &secret)
            .map_err(|error| down("account_unusable", &error.to_string()))?;
        let target = Arc::new(target);
        self.targets.insert((session_id.clone(), of_account), target.clone());
        Ok(target)
    }

    fn spawn(&self, call: Box<Call>, prepared: Prepared) {
        let (client, results, metrics) = (self.client.clone(), self.results.clone(), self.metrics.clone());
        tokio::spawn(async move {
            let start_by = call.start_by_boot_us;
            let check = Box::new(move || clock::now().boot_us <= start_by);
            let traceparent = call.traceparent.as_deref();
            let answered = client.call_if(&prepared.target, &prepared.http, traceparent, check).await;
            let result = match answered {
                Ok((answer, ms)) => prepared.connector.classify_command(call.command.command, &answer, ms),
                Err(lapsed) => *refused(Outcome::NotMade, "claim_lapsed", &lapsed.to_string()),
            };
            count(&metrics, prepared.connector.provider(), &result);
            tell(&call, &result);
            let _ = results.send(Input::Called { call: call.id, result });
        });
    }

    /// Asks a provider for the WhatsApp id of a message; the answer comes on the channel.
    pub(super) fn look_up(&mut self, session_id: &Arc<str>, message_id: Uuid, provider_message_id: &str) {
        let not_found = Input::LookedUp { message_id, found: None };
        let prepared = self.directory.session(session_id).and_then(|session| {
            let connector = self.connectors.get(session.provider)?.clone();
            let http = connector.look_up(provider_message_id)?;
            let target = self.target(session_id, connector.as_ref(), &http).ok()?;
            Some(Prepared { connector, target, http })
        });
        let Some(Prepared { connector, target, http }) = prepared else {
            let _ = self.results.send(not_found);
            return;
        };
        let (client, results) = (self.client.clone(), self.results.clone());
        tokio::spawn(async move {
            let (answer, _) = client.call(&target, &http, None).await;
            let found = match connector.read_look_up(&answer) {
                LookedUp::Found { whatsapp_message_id, chat_id } => Some((whatsapp_message_id, chat_id)),
                LookedUp::NotYet => None,
                LookedUp::Failed { detail } => {
                    tracing::debug!(%message_id, detail, "look-up of a WhatsApp id failed; tried again later");
                    None
                }
            };
            let _ = results.send(Input::LookedUp { message_id, found });
        });
    }
}

struct Prepared {
    connector: Arc<dyn Connector>,
    target: Arc<Target>,
    http: HttpCall,
}

fn refused(outcome: Outcome, code: &str, detail: &str) -> Box<CallResult> {
    let class = match outcome {
        Outcome::SessionDown { .. } => ErrorClass::SessionDown,
        Outcome::Permanent => ErrorClass::Permanent,
        _ => ErrorClass::Retryable,
    };
    let error = SendError {
        class,
        code: code.to_owned(),
        provider_code: None,
        detail: Some(detail.to_owned()),
        retryable: class == ErrorClass::Retryable,
    };
    Box::new(CallResult { outcome, error: Some(error), http_status: None, duration_ms: 0 })
}

fn count(metrics: &Metrics, provider: Provider, result: &CallResult) {
    let class = result.error.as_ref().map_or("NONE", |error| error.class.as_str());
    metrics.attempts.with_label_values(&[provider.as_str(), outcome_name(&result.outcome), class]).inc();
    let seconds = std::time::Duration::from_millis(result.duration_ms).as_secs_f64();
    metrics.attempt_seconds.with_label_values(&[provider.as_str()]).observe(seconds);
}

/// An attempt that did not end in submitted is worth a line.
fn tell(call: &Call, result: &CallResult) {
    if matches!(result.outcome, Outcome::Submitted { .. }) {
        return;
    }
    tracing::info!(
        session_id = %call.session_id,
        message_id = %call.message_id,
        idempotency_key = call.command.idempotency_key,
        attempt = call.attempt,
        outcome = outcome_name(&result.outcome),
        code = result.error.as_ref().map(|error| error.code.as_str()),
        http_status = result.http_status,
        duration_ms = result.duration_ms,
        "attempt was not submitted"
    );
}

const fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Submitted { .. } => "submitted",
        Outcome::Throttled { .. } => "throttled",
        Outcome::Retryable => "retryable",
        Outcome::Permanent => "permanent",
        Outcome::SessionDown { .. } => "session_down",
        Outcome::Unknown => "unknown",
        Outcome::NotMade => "not_made",
    }
}
