//! A ticket's status: what is being done about it.

use super::failed_write::FailedWrite;
use super::schema;
use super::ticket::PathChange;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is being done about a ticket. The phase and the conditions are both projected from the lifecycle.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TicketStatus {
    /// The generation of the ticket that this status is about.
    #[serde(default)]
    pub observed_generation: i64,
    /// Where the ticket is in its life; absent is Open.
    #[serde(default)]
    pub phase: Phase,
    /// Why it is in that phase: one PascalCase word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    /// The same in a sentence, with what to do next where a person is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,
    /// How it ended, or why it was escalated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// What broke, in one line written for people; the spec's title stands until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub title: Option<String>,
    /// The same in a few sentences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub summary: Option<String>,
    /// The planner at work, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planner: Option<PlannerName>,
    /// Planners that had their turn in this round.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub planners_tried: Vec<PlannerName>,
    /// What is believed to be wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// The change that is proposed or was made last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposal: Option<Proposal>,
    /// Hashes of proposals that were rejected or expired: never proposed again. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 64)))]
    pub declined_hashes: Vec<String>,
    /// The attempts at a repair, oldest first; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub attempts: Vec<Attempt>,
    /// Attempts made before the last `harness retry`: they do not count towards maxAttempts.
    #[serde(default)]
    pub forgiven_attempts: u32,
    /// The value of the retry annotation that was acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub observed_retry: Option<String>,
    /// Proposed changes that policy refused in this planner's turn.
    #[serde(default)]
    pub refusals: u32,
    /// Writes whose precondition failed in this round.
    #[serde(default)]
    pub conflicts: u32,
    /// The write that is due and could not be done; absent while nothing is in its way. It is given up 5 minutes after it
    /// failed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_write: Option<FailedWrite>,
    /// What was done, oldest first; at most 100, older ones are dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub steps: Vec<Step>,
    /// How many steps there were, dropped ones included.
    #[serde(default)]
    pub step_count: u32,
    /// What models cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ModelUsage>,
    /// For the person who takes over: what was seen, tried and undone, and what would be tried next. Only while the
    /// ticket is Escalated, and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub handover: Option<String>,
    /// When the diagnosis began, or was taken up again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_micro_time")]
    pub diagnosing_at: Option<MicroTime>,
    /// Time spent on diagnosis before that, in this round, in milliseconds.
    #[serde(default)]
    pub diagnosed_milliseconds: u32,
    /// When the ticket was Resolved or Cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_micro_time")]
    pub ended_at: Option<MicroTime>,
    /// Standard conditions: Resolved, Escalated, UnverifiedChange.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// Where a ticket is in its life.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Waiting for its turn.
    #[default]
    Open,
    /// A planner investigates.
    Diagnosing,
    /// A person must say yes or no to the proposal.
    AwaitingApproval,
    /// The change is being written.
    Repairing,
    /// The change was written; the monitor decides whether it worked.
    Verifying,
    /// The change did not work and is being undone.
    RollingBack,
    /// A person is needed. Still open: it resolves when the invariant holds.
    Escalated,
    /// The monitor saw the invariant hold. Final.
    Resolved,
    /// The invariant or the ticket was deleted. Final.
    Cancelled,
}

/// How a ticket ended, or why it was escalated.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Resolved: the change of an attempt was verified.
    Repaired,
    /// Resolved: it held again, and nobody is known to have changed the target.
    SelfHealed,
    /// Resolved: it held again after others changed the target.
    FixedByPerson,
    /// Resolved: it held again under a spec that was edited in mid-incident.
    InvariantChanged,
    /// Escalated: a change is proposed that this invariant's mode does not let the harness make.
    Proposed,
    /// Escalated: the planner found that nothing needs to be done.
    NoActionRequired,
    /// Escalated: no planner found a change that is allowed.
    NoPlan,
    /// Escalated: the planner found that a person must decide.
    HandedOver,
    /// Escalated: the invariant never held in its current form, so that there is no good state to return to.
    NeverHeld,
    /// Escalated: so much of the namespace is broken at once that the cause lies elsewhere; nothing is repaired one by
    /// one.
    Outage,
    /// Escalated: a person said no.
    Rejected,
    /// Escalated: nobody answered in time.
    ApprovalExpired,
    /// Escalated: others write what the harness would write.
    Contested,
    /// Escalated: the precondition of the write failed again and again.
    Conflicts,
    /// Escalated: the target is gone.
    TargetUnavailable,
    /// Escalated: the API server refused a write, for the reason in the message. What was written of the attempt was put
    /// back.
    WriteRefused,
    /// Escalated: as many attempts as allowed were undone.
    AttemptsExhausted,
    /// Escalated: the budget was spent.
    BudgetExhausted,
    /// Escalated: not everything could be put back; the message names what could not. The rest was.
    UndoConflict,
    /// Cancelled: the invariant was deleted.
    InvariantDeleted,
    /// Cancelled: the ticket was deleted.
    TicketDeleted,
}

/// Who proposes changes.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlannerName {
    /// Claude investigates with tools and proposes a change.
    Claude,
    /// Restores allowed configuration to the last revision under which everything held.
    LastKnownGood,
}

/// What is believed to be wrong.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// What was found, in a few sentences.
    #[schemars(length(max = 2048))]
    pub summary: String,
    /// The cause in one line.
    #[schemars(length(max = 256))]
    pub root_cause: String,
    /// How sure the planner is. It decides nothing.
    pub confidence: Confidence,
}

/// How sure a planner is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confidence {
    /// A guess.
    Low,
    /// Likely.
    Medium,
    /// Supported by all that was seen.
    High,
}

/// A proposed change.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Proposal {
    /// SHA-256 over the objects, keys, old and new texts: what an approval is bound to.
    #[schemars(length(max = 64))]
    pub hash: String,
    /// Random, and another one each time that something is proposed, be it the same: an approval must repeat it, so that a
    /// word is used once. Absent where no answer is awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub nonce: Option<String>,
    /// Why this change, in a sentence.
    #[schemars(length(max = 1024))]
    pub why: String,
    /// What would be changed; at most 8.
    #[schemars(length(max = 8))]
    pub actions: Vec<ActionRecord>,
    /// When it was proposed.
    #[schemars(schema_with = "schema::micro_time")]
    pub proposed_at: MicroTime,
    /// No answer by then is a no. Absent where no answer is awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_micro_time")]
    pub expires_at: Option<MicroTime>,
    /// When the breaker that keeps it from being made without a person closes: the change is planned anew then. Absent
    /// where no breaker is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_micro_time")]
    pub breaker_closes_at: Option<MicroTime>,
    /// The generation of the invariant that it was made for.
    #[serde(default)]
    pub invariant_generation: i64,
    /// The command that approves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub approve_command: Option<String>,
}

/// What is done to an object.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Action {
    /// A key of a ConfigMap gets another text.
    #[default]
    EditConfig,
    /// The pods of a workload are restarted one after the other. It cannot be undone.
    Restart,
    /// The containers of a workload get the image, command, args, env, envFrom and resources of an earlier revision.
    Rollback,
    /// A workload gets another number of replicas.
    Scale,
}

/// One change to one part of one object, as shown to people. The exact texts are kept apart.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ActionRecord {
    /// What is done.
    #[serde(default)]
    pub action: Action,
    /// The object.
    pub object: ObjectReference,
    /// The part of it: a key in the data of a ConfigMap; restartedAt, template or replicas of a workload.
    #[schemars(length(max = 253))]
    pub key: String,
    /// The object's resourceVersion that the change is based on.
    #[schemars(length(max = 64))]
    pub resource_version: String,
    /// A unified diff, redacted, cut at 4096 characters.
    #[schemars(length(max = 4096))]
    pub diff: String,
    /// The values that it changes; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub changes: Vec<PathChange>,
    /// SHA-256 of the text before.
    #[schemars(length(max = 64))]
    pub before_digest: String,
    /// SHA-256 of the text after.
    #[schemars(length(max = 64))]
    pub after_digest: String,
    /// The ControllerRevision that holds both texts exactly; only the agent reads it. Absent until the intent is saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub revision: Option<String>,
    /// The object's resourceVersion that the write gave; absent until it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub written_resource_version: Option<String>,
}

/// An object in the ticket's namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectReference {
    /// Its kind.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its UID.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// One attempt at a repair: all changes of one proposal.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// From 1; also in the mark `TICKET-UID/N` on the objects.
    pub number: u32,
    /// The planner that proposed it.
    pub planner: PlannerName,
    /// The hash of its proposal.
    #[schemars(length(max = 64))]
    pub hash: String,
    /// The nonce of the approval that it was made by: no later word with this nonce counts. Absent where nobody was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub nonce: Option<String>,
    /// The changes, with where their exact texts are kept.
    #[schemars(length(max = 8))]
    pub actions: Vec<ActionRecord>,
    /// Invariants that held just before the write and must go on holding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub guards: Vec<String>,
    /// Guards that did not hold just before the write, and so do not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub excluded_guards: Vec<String>,
    /// The agent that may write it: the holder of the agents' lease that saved the intent, or took it over. Absent in
    /// attempts of before there was a lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub holder: Option<String>,
    /// When the intent was saved, before the write.
    #[schemars(schema_with = "schema::micro_time")]
    pub intended_at: MicroTime,
    /// When the write was acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_micro_time")]
    pub written_at: Option<MicroTime>,
    /// Since when the change is in force where it is read; samples count from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_micro_time")]
    pub in_force_at: Option<MicroTime>,
    /// When it was verified, undone or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_micro_time")]
    pub settled_at: Option<MicroTime>,
    /// What came of it.
    pub result: AttemptResult,
    /// The write of it that the API server refused. What was written before is put back, and a person is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<FailedWrite>,
    /// Why it was undone or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// What models cost on behalf of a ticket.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ModelUsage {
    /// The models that were asked; at most 8.
    #[schemars(length(max = 8), inner(length(max = 128)))]
    pub models: Vec<String>,
    /// Calls of any model.
    pub calls: u32,
    /// Input tokens that were not read from the cache.
    pub input_tokens: u64,
    /// Input tokens that were read from the cache; they do not count towards the budget.
    pub cache_read_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// What all that cost, as a decimal number of dollars.
    #[schemars(length(max = 32))]
    pub dollars: String,
}

/// What came of an attempt.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// Neither verified nor undone yet.
    Unsettled,
    /// The monitor saw the invariant and the guards hold.
    Verified,
    /// It did not verify; the objects are as they were before.
    Undone,
    /// Nothing was written.
    NotWritten,
    /// It did not verify and could not be undone; the change stands.
    LeftInPlace,
    /// Before it was verified, somebody else brought back what it took away.
    Overwritten,
}

/// One line of the journal.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// From 1, never reused.
    pub number: u32,
    /// When it was done.
    #[schemars(schema_with = "schema::micro_time")]
    pub at: MicroTime,
    /// One line for people; at most 80 characters.
    #[schemars(length(max = 256))]
    pub summary: String,
    /// The tool.
    #[schemars(length(max = 64))]
    pub tool: String,
    /// The tool's input.
    #[schemars(schema_with = "schema::any_object")]
    pub input: serde_json::Map<String, serde_json::Value>,
    /// What came of it, in one line, capped and redacted.
    #[schemars(length(max = 512))]
    pub outcome: String,
    /// How long it took, in milliseconds, rounded up.
    pub duration_milliseconds: u32,
}
