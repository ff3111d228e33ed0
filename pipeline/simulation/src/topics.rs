//! Writing to and reading from the topics: what lands, late or not at all, and how far each owner has read.

use bytes::Bytes;
use sluice_core::sender::ledger::Key;
use sluice_core::sender::{BadRequest, Input, Request as Asked, Token};
use sluice_schemas::{DeadLetterReason, EntryKind, LedgerEntry, MessageStatus, Source, Status};

use crate::owner::Line;
use crate::plan::Request;
use crate::world::{At, Event, Stated, World};

impl World {
    // The ledger.

    pub(crate) fn append(
        &mut self,
        at: At,
        key: Key,
        epoch: i64,
        entry: Option<Box<LedgerEntry>>,
        urgent: bool,
    ) {
        self.check_append(at.owner, epoch);
        if let Some(claim) = entry.as_deref().filter(|entry| entry.kind == EntryKind::Claimed) {
            self.claimed_us.insert((epoch, claim.claim_seq.unwrap_or(0)), self.now_us);
        }
        let line = if urgent { Line::Claims } else { Line::Intake };
        let slow = self.faults && self.rng.chance(2);
        let after_us = self.rng.between(500, if slow { 3_000_000 } else { 4_000 });
        if self.faults && self.rng.chance(1) {
            // Reported as failed; it may yet come, in nobody's order.
            let reported_us = self.rng.between(1_000, 5_000_000);
            self.input(reported_us, at, Input::LedgerFailed { partition: 0, epoch });
            if self.rng.chance(60) {
                let late_us = self.rng.between(0, 9_000_000);
                self.later(late_us, Event::Land(at, key, epoch, entry));
            }
            return;
        }
        let lands_us = self.owners[at.owner].lands(line, self.now_us + after_us);
        self.later(lands_us - self.now_us, Event::Land(at, key, epoch, entry.clone()));
        if self.faults && self.rng.chance(1) {
            // Twice, before whatever the same producer writes next.
            let again_us = lands_us + self.rng.between(0, 2_000_000);
            let again_us = self.owners[at.owner].lands(line, again_us);
            self.later(again_us - self.now_us, Event::LandAgain(key, epoch, entry));
        }
    }

    /// A record of an epoch that is over lands a second time. In one that is not, an idempotent producer prevents it.
    pub(crate) fn land_again(&mut self, key: Key, epoch: i64, entry: Option<Box<LedgerEntry>>) {
        if self.log.is_fenced_between(epoch, self.log.end()) {
            let end = self.log.end();
            self.note(|| format!("log[{end}] {key} again, of epoch {epoch}"));
            self.put_on_log(key, epoch, entry);
        }
    }

    fn put_on_log(&mut self, key: Key, epoch: i64, entry: Option<Box<LedgerEntry>>) {
        self.check_record(key, entry.as_deref());
        self.log.append(self.now_us, key, epoch, entry);
        self.wake_tails();
    }

    pub(crate) fn land(&mut self, at: At, key: Key, epoch: i64, entry: Option<Box<LedgerEntry>>) {
        if self.owners[at.owner].life != at.life && self.rng.chance(50) {
            return;
        }
        let kind = entry.as_ref().map_or("-", |entry| entry.kind.as_str());
        let end = self.log.end();
        self.note(|| format!("log[{end}] {key} {kind} of epoch {epoch}"));
        self.put_on_log(key, epoch, entry);
    }

    pub(crate) fn write_fence(&mut self, at: At) {
        let owner = &mut self.owners[at.owner];
        owner.end_tenure();
        let Some(entry) = owner.sender.as_ref().map(|sender| sender.fence_entry()) else { return };
        let after_us = self.rng.between(500, 5_000);
        let lands_us = self.owners[at.owner].lands(Line::Claims, self.now_us + after_us);
        let reported = !(self.faults && self.rng.chance(3));
        self.later(lands_us - self.now_us, Event::LandFence(at, Box::new(entry), reported));
    }

    pub(crate) fn land_fence(&mut self, at: At, entry: Box<LedgerEntry>, reported: bool) {
        let offset = self.log.append(self.now_us, Key::Fence, -1, Some(entry));
        self.note(|| format!("log[{offset}] fence of {}", at.owner));
        if reported {
            self.input(1_000, at, Input::Fenced { partition: 0, offset });
        } else {
            self.later(1_000_000, Event::Refence(at));
        }
        self.wake_tails();
    }

    fn wake_tails(&mut self) {
        for owner in 0..self.owners.len() {
            if self.owners[owner].tail.is_some() {
                let after_us = self.owners[owner].lag_us;
                self.later(after_us, Event::ReadLedger(self.at(owner)));
            }
        }
    }

    pub(crate) fn read_ledger(&mut self, at: At) {
        let tenure = self.owners[at.owner].tenure;
        let Some(from) = self.owners[at.owner].tail else { return };
        let to = self.log.end().min(from + 32);
        for offset in from..to {
            self.owners[at.owner].tail = Some(offset + 1);
            if let Some(read) = self.log.read(offset) {
                self.owners[at.owner].hear_throttle(&read);
                if read.key == Key::Fence {
                    let seen = &mut self.owners[at.owner].fence_read;
                    *seen = (*seen).max(offset);
                }
                self.step(at.owner, Input::Ledger { partition: 0, read });
            }
            if self.owners[at.owner].tenure != tenure && self.owners[at.owner].tail.is_none() {
                return;
            }
        }
        if to > from {
            self.step(at.owner, Input::LedgerPassed { partition: 0, next_offset: to });
            if to < self.log.end() {
                self.later(500, Event::ReadLedger(at));
            }
        }
    }

    // Statuses.

    pub(crate) fn publish(&mut self, at: At, status: Box<MessageStatus>, token: Token) {
        let epoch = self.owners[at.owner].epoch();
        let slow = self.faults && self.rng.chance(3);
        let after_us = self.rng.between(500, if slow { 6_000_000 } else { 5_000 });
        let lands_us = self.owners[at.owner].lands(Line::Facts, self.now_us + after_us);
        self.later(lands_us - self.now_us, Event::LandStatus(at, epoch, status, token));
    }

    pub(crate) fn land_status(&mut self, at: At, epoch: Option<i64>, status: MessageStatus, token: Token) {
        if self.owners[at.owner].life != at.life && self.rng.chance(50) {
            return;
        }
        self.check_status(epoch, &status);
        self.state(epoch, status);
        let offset = self.statuses.len() as i64;
        if token != Token::None {
            let after_us = self.rng.between(200, 3_000);
            self.input(after_us, at, Input::Acked { token, offset });
        }
    }

    pub(crate) fn state(&mut self, epoch: Option<i64>, status: MessageStatus) {
        self.note(|| {
            format!("status {} {:?} claim {:?}", status.status.as_str(), status.message_id, status.claim_seq)
        });
        self.statuses.push(Stated { status, epoch, at_us: self.now_us });
        for owner in 0..self.owners.len() {
            if self.owners[owner].status_next.is_some() {
                let after_us = self.rng.between(1_000, 50_000);
                self.later(after_us, Event::ReadStatus(self.at(owner)));
            }
        }
    }

    /// Reads statuses as the shell does: those of its own epoch are none of its business.
    pub(crate) fn read_status(&mut self, at: At) {
        while let Some(next) = self.owners[at.owner].status_next {
            let Some(stated) = self.statuses.get(next) else { break };
            self.owners[at.owner].status_next = Some(next + 1);
            let own = stated.epoch.is_some() && stated.epoch == self.owners[at.owner].epoch();
            let is_evidence = match stated.status.source {
                Source::Sender => !own,
                Source::Webhook => stated.status.status == Status::Sent,
                Source::Operator => true,
                _ => false,
            };
            if is_evidence {
                let status = Box::new(stated.status.clone());
                self.step(at.owner, Input::Status { partition: 0, status });
            }
        }
        let owner = &mut self.owners[at.owner];
        if let (Some(next), Some((asked_ms, end))) = (owner.status_next, owner.status_asked)
            && next >= end
        {
            owner.status_asked = None;
            self.step(at.owner, Input::StatusCaughtUp { partition: 0, asked_ms });
        }
    }

    pub(crate) fn ask_status_end(&mut self, at: At, tenure: u64) {
        let end = self.statuses.len();
        let now_ms = self.owners[at.owner].now(self.now_us).wall_ms();
        let owner = &mut self.owners[at.owner];
        if owner.tenure != tenure {
            return;
        }
        if owner.sender.as_ref().is_some_and(|sender| !sender.partitions_in_doubt().is_empty()) {
            owner.status_asked = Some((now_ms, end));
            self.later(2_000, Event::ReadStatus(at));
        }
        self.later(4_000_000, Event::AskStatusEnd(at, tenure));
    }

    // Requests.

    pub(crate) fn own(&mut self, at: At, position: Option<i64>, status_from_ms: i64) {
        let from_us = status_from_ms.saturating_mul(1000);
        let owner = &mut self.owners[at.owner];
        owner.tenure += 1;
        owner.request_next = Some(self.committed.max(position.unwrap_or(0)));
        owner.status_next = Some(self.statuses.partition_point(|stated| stated.at_us < from_us));
        let tenure = owner.tenure;
        self.later(2_000, Event::ReadStatus(at));
        self.later(3_000, Event::ReadRequests(at, tenure));
        self.later(1_000_000, Event::AskStatusEnd(at, tenure));
    }

    pub(crate) fn read_requests(&mut self, at: At, tenure: u64) {
        for _ in 0..3 {
            let owner = &self.owners[at.owner];
            if owner.tenure != tenure || owner.intake_held {
                return;
            }
            let Some(offset) = owner.request_next else { return };
            let Some(request) = self.requests.get(offset as usize).cloned() else { return };
            self.owners[at.owner].request_next = Some(offset + 1);
            let asked = asked(&request, offset, self.now_us / 1000);
            if request.delayed && self.rng.chance(50) {
                let bytes = request.raw.len();
                self.step(at.owner, Input::RequestDelayed { partition: 0, offset, bytes });
                let after_us = self.rng.between(1_000, 3_000_000);
                self.later(after_us, Event::Delayed(at, tenure, Box::new(asked)));
            } else {
                self.step(at.owner, Input::Request(asked));
            }
        }
        self.later(1_000, Event::ReadRequests(at, tenure));
    }

    pub(crate) fn produce(&mut self, request: Request) {
        let offset = self.requests.len();
        self.note(|| format!("request[{offset}] {} {:?}", request.id, request.command));
        self.requests.push(request);
        for owner in 0..self.owners.len() {
            let tenure = self.owners[owner].tenure;
            self.later(1_000, Event::ReadRequests(self.at(owner), tenure));
        }
    }

    pub(crate) fn commit(&mut self, owner: usize, offset: i64) {
        self.check_commit(owner, offset);
        // The group refuses the commit of a member it has written off.
        if self.group == Some(owner) {
            self.committed = offset;
        }
    }
}

fn asked(request: &Request, offset: i64, timestamp_ms: i64) -> Asked {
    let bad = BadRequest { reason: DeadLetterReason::Undecodable, detail: "not a request".into() };
    Asked {
        partition: 0,
        offset,
        timestamp_ms,
        hops: 0,
        traceparent: None,
        raw: Bytes::from(request.raw.clone()),
        command: if request.readable { Ok(request.command.clone()) } else { Err(bad) },
    }
}
