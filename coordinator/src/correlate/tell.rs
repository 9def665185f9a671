//! Whether a problem is told, and what hides it: silences, what it depends on,
//! and alike problems that were told before it.

use farol_protocol::{Status, Timestamp, registry::RunsOn};

use super::{
    Check, Correlator, GATHER_MS, GRACE_MS, Hidden, Outcome, Rule, Rules, Slot, Tell, Transition, effect::Effect,
};
use crate::store::hosts::HostKey;

/// For so long after a service has ended its host may still be on its way down, in ms.
const SHUTDOWN_MS: i64 = 15_000;

impl Correlator {
    /// Judges an open problem anew.
    pub(super) fn judge(&mut self, rules: &Rules, slot: Slot, now: Timestamp, outcome: &mut Outcome) {
        self.judge_into(rules, slot, now, outcome, None);
    }

    /// `place` is that of the effect that opens it, which then says it all.
    pub(super) fn judge_into(
        &mut self,
        rules: &Rules,
        slot: Slot,
        now: Timestamp,
        outcome: &mut Outcome,
        place: Option<usize>,
    ) {
        let Some(problem) = &self.checks[slot].state.problem else { return };
        let Some(rule) = rules.of(&self.checks[slot].key) else { return };
        let old = problem.hidden.clone();
        let told_before = problem.told;
        let hidden = self.verdict(rules, rule, slot, now);
        let Some(problem) = &mut self.checks[slot].state.problem else { return };
        // Whoever acknowledged it knows of it.
        let tells = hidden.is_none() && !told_before && !problem.acknowledged;
        problem.told |= tells;
        // What was to be told later, or to others, was given up while it was hidden.
        let told_again = told_before && hidden.is_none() && is_suppressed(old.as_ref()) && !problem.acknowledged;
        let was_joined = match (&old, &hidden) {
            (Some(Hidden::Group { host, .. }), new) if new.as_ref() != old.as_ref() => Some(*host),
            _ => None,
        };
        if old != hidden {
            problem.hidden.clone_from(&hidden);
            self.forget_hidden(slot, old.as_ref());
            self.note_hidden(rules, slot, hidden.as_ref(), now);
        }
        let tell = (tells || told_again).then_some(Tell::Problem);
        if let Some(effect) = place.and_then(|place| outcome.effects.get_mut(place)) {
            effect.hidden = hidden;
            effect.tell = tell;
        } else if old != hidden || tells {
            self.say_judgement(slot, (old.as_ref(), hidden.as_ref()), tell, outcome);
        }
        if tells {
            self.leads(rules, slot, now);
        }
        // What it explains has a cause further away now.
        if matches!(
            self.checks[slot].state.problem.as_ref().map(|problem| &problem.hidden),
            Some(Some(Hidden::Cause { .. }))
        ) {
            for other in self.explained.get(&slot).cloned().unwrap_or_default() {
                self.judge(rules, other, now, outcome);
            }
        }
        if let Some(leader) = was_joined {
            let check = self.checks[slot].key.1.clone();
            self.left(leader, &check, outcome);
        }
        self.plan(rules, slot, now);
    }

    fn say_judgement(
        &mut self,
        slot: Slot,
        (old, hidden): (Option<&Hidden>, Option<&Hidden>),
        tell: Option<Tell>,
        outcome: &mut Outcome,
    ) {
        let (was, is) = (is_suppressed(old), is_suppressed(hidden));
        let is_other = hidden.is_some_and(Hidden::is_suppressed) && old != hidden;
        let transition = if is_other || was != is {
            let Some(problem) = &mut self.checks[slot].state.problem else { return };
            problem.steps += 1;
            if is { Transition::Hidden(problem.steps) } else { Transition::Shown(problem.steps) }
        } else if tell.is_some() {
            Transition::Told
        } else {
            outcome.touched.push(self.checks[slot].key.clone());
            return;
        };
        self.effect(slot, transition, None, tell, outcome);
    }

    /// What hides it now.
    fn verdict(&self, rules: &Rules, rule: &Rule, slot: Slot, now: Timestamp) -> Option<Hidden> {
        let Check { key, state, .. } = &self.checks[slot];
        let problem = state.problem.as_ref()?;
        if let Some(quiet) = self.quiet.iter().find(|quiet| quiet.matcher.covers(key, &rule.scenario)) {
            return Some(Hidden::Quiet { id: quiet.id.clone(), kind: quiet.kind });
        }
        let is_explicable = rule.is_explicable && !problem.stale;
        if is_explicable && let Some(cause) = self.cause(rules, rule, slot) {
            let Check { key, state, .. } = &self.checks[cause];
            return Some(Hidden::Cause { host: key.0, check: key.1.clone(), episode: state.episode() });
        }
        if problem.told || problem.acknowledged {
            return None;
        }
        match &problem.hidden {
            // The cause is gone: its next report, or this, decides.
            Some(Hidden::Cause { .. } | Hidden::Quiet { .. }) => {
                let grace_ms = rule.stale_ms.unwrap_or(0).clamp(GRACE_MS.0, GRACE_MS.1);
                return Some(Hidden::Waits { until: now.plus_ms(grace_ms), grace: true });
            }
            Some(Hidden::Waits { until, grace: true }) if now < *until => return problem.hidden.clone(),
            Some(Hidden::Waits { until, grace: false })
                if now < *until && !self.unsettled(rules, rule, slot).is_empty() =>
            {
                return problem.hidden.clone();
            }
            Some(Hidden::Group { host, .. }) if self.still_joins(*host, slot) => return problem.hidden.clone(),
            None if is_explicable && !self.unsettled(rules, rule, slot).is_empty() => {
                let until = problem.opened_at.unwrap_or(now).plus_ms(rules.hold_ms);
                if now < until {
                    return Some(Hidden::Waits { until, grace: false });
                }
            }
            _ => {}
        }
        self.leader_for(rules, rule, slot, now)
    }

    /// Hosts whose failure would explain a check's problem, nearest first: its
    /// own host unless the check is what shows that it lives.
    fn explains(&self, rules: &Rules, rule: &Rule, slot: Slot) -> Explains {
        let key = &self.checks[slot].key;
        if rule.runs_on == RunsOn::Coordinator && !rules.is_alive_check(key) {
            Explains::Own(key.0)
        } else {
            Explains::Needs(key.0)
        }
    }

    /// The check that explains a problem.
    fn cause(&self, rules: &Rules, rule: &Rule, slot: Slot) -> Option<Slot> {
        let cause = match self.explains(rules, rule, slot) {
            Explains::Own(host) => self.cause_at(rules, host),
            // Of several checks that say that a host is down, the first one does.
            Explains::Needs(host) => self.cause_above(rules, host).or_else(|| {
                let is_one_of_them = rules.is_alive_check(&self.checks[slot].key);
                is_one_of_them.then(|| self.down(rules, host)).flatten()
            }),
        };
        cause.filter(|cause| *cause != slot)
    }

    /// The furthest host that is down on the way through this one.
    fn cause_at(&self, rules: &Rules, host: HostKey) -> Option<Slot> {
        match self.down(rules, host) {
            Some(down) => Some(self.cause_above(rules, host).unwrap_or(down)),
            // Nothing tells whether it lives, so look past it.
            None if !self.is_known(rules, host) => self.cause_above(rules, host),
            None => None,
        }
    }

    fn cause_above(&self, rules: &Rules, host: HostKey) -> Option<Slot> {
        let needs = self.dependencies.of(host)?;
        if let Some(cause) = needs.all.iter().find_map(|need| self.cause_at(rules, *need)) {
            return Some(cause);
        }
        // One way in is enough.
        let ways: Vec<Option<Slot>> = needs.any.iter().map(|way| self.cause_at(rules, *way)).collect();
        if ways.iter().all(Option::is_some) { ways.into_iter().flatten().next() } else { None }
    }

    /// The check that says that a host is down: all that show that it lives say so.
    pub(super) fn down(&self, rules: &Rules, host: HostKey) -> Option<Slot> {
        // One that was told goes first, then the one that is longest so.
        let mut down: Option<(bool, Timestamp, Slot)> = None;
        for check in rules.alive(host) {
            let Some(slot) = self.index.get(&(host, check.clone())) else { continue };
            let state = &self.checks[*slot].state;
            if state.last.as_ref().is_none_or(|last| last.cause.is_some()) {
                continue;
            }
            // Whoever could not look does not know that it is down, nor is one that flaps down while it is fine.
            let problem =
                state.problem.as_ref().filter(|problem| problem.status == Status::Critical && !problem.stale)?;
            if state.flapping && state.last.as_ref().is_none_or(|last| last.status != Status::Critical) {
                return None;
            }
            let this = (!problem.told, problem.since, *slot);
            down = Some(down.map_or(this, |other| other.min(this)));
        }
        down.map(|(.., slot)| slot)
    }

    /// Whether anything ever showed that a host lives or not.
    fn is_known(&self, rules: &Rules, host: HostKey) -> bool {
        self.seen.contains_key(&host)
            || rules.alive(host).iter().any(|check| self.index.contains_key(&(host, check.clone())))
    }

    /// Hosts that might explain it and have not shown yet that they are alive
    /// since it began.
    fn unsettled(&self, rules: &Rules, rule: &Rule, slot: Slot) -> Vec<HostKey> {
        let mut found = Vec::new();
        let Some(problem) = &self.checks[slot].state.problem else { return found };
        if !rule.is_explicable || problem.stale {
            return found;
        }
        match self.explains(rules, rule, slot) {
            Explains::Own(host) => {
                // Services end before the agent does when a machine is shut down.
                let since = problem.since.plus_ms(SHUTDOWN_MS.min(rules.hold_ms / 3));
                self.unsettled_at(rules, host, since, &mut found);
            }
            Explains::Needs(host) => self.unsettled_above(rules, host, problem.since, &mut found),
        }
        found
    }

    fn lives(&self, host: HostKey, since: Timestamp) -> bool {
        self.seen.get(&host).is_some_and(|seen| *seen >= since)
    }

    fn unsettled_at(&self, rules: &Rules, host: HostKey, since: Timestamp, found: &mut Vec<HostKey>) {
        if self.lives(host, since) {
            return;
        }
        if self.is_known(rules, host) {
            found.push(host);
        } else {
            self.unsettled_above(rules, host, since, found);
        }
    }

    fn unsettled_above(&self, rules: &Rules, host: HostKey, since: Timestamp, found: &mut Vec<HostKey>) {
        let Some(needs) = self.dependencies.of(host) else { return };
        for need in &needs.all {
            self.unsettled_at(rules, *need, since, found);
        }
        if !needs.any.iter().any(|way| self.lives(*way, since)) {
            for way in &needs.any {
                self.unsettled_at(rules, *way, since, found);
            }
        }
    }

    /// Files a problem under those whose sign of life it waits for.
    pub(super) fn wait(&mut self, rules: &Rules, slot: Slot) {
        let Some(rule) = rules.of(&self.checks[slot].key) else { return };
        let hosts = self.unsettled(rules, rule, slot);
        for host in &hosts {
            self.awaited.entry(*host).or_default().insert(slot);
        }
        self.waiting.insert(slot, hosts);
    }

    fn note_hidden(&mut self, rules: &Rules, slot: Slot, hidden: Option<&Hidden>, now: Timestamp) {
        match hidden {
            Some(Hidden::Waits { grace: false, .. }) => self.wait(rules, slot),
            Some(Hidden::Cause { host, check, .. }) => {
                if let Some(cause) = self.index.get(&(*host, check.clone())) {
                    self.explained.entry(*cause).or_default().insert(slot);
                }
            }
            Some(Hidden::Group { host, .. }) => {
                let check = self.checks[slot].key.1.clone();
                let Some(leader) = self.index.get(&(*host, check.clone())).copied() else { return };
                self.joined.entry(leader).or_default().insert(slot);
                if let Some(leading) = self.leading.get_mut(&(check, rules.site(self.checks[leader].key.0))) {
                    leading.1 = now;
                }
                self.gathering.entry(leader).or_insert(now.plus_ms(GATHER_MS));
                self.plan(rules, leader, now);
            }
            _ => {}
        }
    }

    pub(super) fn forget_hidden(&mut self, slot: Slot, hidden: Option<&Hidden>) {
        match hidden {
            Some(Hidden::Waits { .. }) => {
                for host in self.waiting.remove(&slot).unwrap_or_default() {
                    if let Some(slots) = self.awaited.get_mut(&host) {
                        slots.remove(&slot);
                        if slots.is_empty() {
                            self.awaited.remove(&host);
                        }
                    }
                }
            }
            Some(Hidden::Cause { host, check, .. }) => {
                if let Some(cause) = self.index.get(&(*host, check.clone()))
                    && let Some(slots) = self.explained.get_mut(cause)
                {
                    slots.remove(&slot);
                }
            }
            Some(Hidden::Group { host, .. }) => {
                if let Some(leader) = self.index.get(&(*host, self.checks[slot].key.1.clone()))
                    && let Some(slots) = self.joined.get_mut(leader)
                {
                    slots.remove(&slot);
                }
            }
            Some(Hidden::Quiet { .. }) | None => {}
        }
    }

    /// A told problem that others like it may join from now on.
    fn leads(&mut self, rules: &Rules, slot: Slot, now: Timestamp) {
        let check = self.checks[slot].key.clone();
        if rules.of(&check).is_some_and(|rule| rule.is_grouped) {
            self.leading.insert((check.1, rules.site(check.0)), (slot, now));
        }
    }

    fn leader_for(&self, rules: &Rules, rule: &Rule, slot: Slot, now: Timestamp) -> Option<Hidden> {
        let Check { key, state, .. } = &self.checks[slot];
        // Of another site others are told.
        let (leader, last) = self.leading.get(&(key.1.clone(), rules.site(key.0))).copied()?;
        let other = &self.checks[leader];
        let (own, problem) = (state.problem.as_ref()?, other.state.problem.as_ref()?);
        let joins = rule.is_grouped
            && leader != slot
            && problem.told
            && !problem.acknowledged
            && problem.hidden.is_none()
            && problem.severity >= own.severity
            && now.since(last) <= rules.group_ms;
        let (host, episode) = (other.key.0, other.state.episode());
        joins.then_some(Hidden::Group { host, episode, said: false })
    }

    /// Whether it weighs no more than what it has joined, which may be over.
    fn still_joins(&self, host: HostKey, slot: Slot) -> bool {
        let Check { key, state, .. } = &self.checks[slot];
        let (Some(leader), Some(problem)) = (self.index.get(&(host, key.1.clone())), &state.problem) else {
            return false;
        };
        let leader = &self.checks[*leader].state;
        let severity = leader.problem.as_ref().map(|problem| problem.severity);
        severity.or(leader.over.last().map(|over| over.severity)).is_some_and(|severity| severity >= problem.severity)
    }

    /// One of those that had joined is gone: the last one's recovery is
    /// everybody's.
    pub(super) fn left(&mut self, host: HostKey, check: &farol_protocol::CheckId, outcome: &mut Outcome) {
        let Some(leader) = self.index.get(&(host, check.clone())).copied() else { return };
        if self.joined.get(&leader).is_some_and(|joined| !joined.is_empty()) {
            return;
        }
        self.joined.remove(&leader);
        let unsaid = self.gathering.remove(&leader).is_some();
        let over = std::mem::take(&mut self.checks[leader].state.over);
        if unsaid && over.is_empty() {
            outcome.touched.push(self.checks[leader].key.clone());
        }
        for over in over {
            outcome.effects.extend(self.effect_over(leader, &over, Transition::AllResolved, Tell::Recovery));
        }
    }

    pub(super) fn gather_at(&self, slot: Slot) -> Option<Timestamp> {
        self.gathering.get(&slot).copied()
    }

    /// Those that joined since it was last told are told together.
    pub(super) fn gathered(&mut self, slot: Slot, now: Timestamp, outcome: &mut Outcome) {
        if self.gathering.get(&slot).is_none_or(|at| *at > now) {
            return;
        }
        self.gathering.remove(&slot);
        let mut members = Vec::new();
        for member in self.joined.get(&slot).into_iter().flatten() {
            let Check { key, state, .. } = &mut self.checks[*member];
            if let Some(problem) = &mut state.problem
                && let Some(Hidden::Group { said, .. }) = &mut problem.hidden
                && !std::mem::replace(said, true)
            {
                members.push(key.0);
                outcome.touched.push(key.clone());
            }
        }
        if members.is_empty() {
            return;
        }
        let state = &mut self.checks[slot].state;
        state.grew += 1;
        let transition = Transition::Grew(state.grew);
        let state = &self.checks[slot].state;
        let effect = match (state.problem.as_ref().filter(|problem| problem.told), state.over.last()) {
            (Some(problem), _) => self.effect_of(slot, transition, problem, None, Some(Tell::Grew)),
            (None, Some(over)) => self.effect_over(slot, over, transition, Tell::Grew),
            (None, None) => None,
        };
        outcome.effects.extend(effect.map(|effect| Effect { members, ..effect }));
    }

    /// Says something of an episode that is over.
    fn effect_over(&self, slot: Slot, over: &super::state::Over, transition: Transition, tell: Tell) -> Option<Effect> {
        let Check { key, state, .. } = &self.checks[slot];
        Some(Effect {
            key: key.clone(),
            episode: over.episode,
            transition,
            severity: over.severity,
            status: over.status,
            report: state.last.clone()?,
            before: Some(over.status),
            since: over.since,
            hidden: None,
            stale: false,
            flapping: state.flapping,
            members: Vec::new(),
            tell: Some(tell),
        })
    }
}

enum Explains {
    Own(HostKey),
    Needs(HostKey),
}

/// Kept from people, be it for the time that it has to recover.
pub(super) const fn is_suppressed(hidden: Option<&Hidden>) -> bool {
    match hidden {
        Some(Hidden::Waits { grace, .. }) => *grace,
        Some(hidden) => hidden.is_suppressed(),
        None => false,
    }
}
