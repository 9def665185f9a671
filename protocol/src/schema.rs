//! The wire types as JSON Schema (2020-12), for agents that are not Farol's.
//!
//! The schemas are derived from the types, so what refuses unknown fields is
//! `additionalProperties: false` and what is open is not. Bounds that the code
//! checks after reading are added here, from the same constants. What a schema
//! cannot say stays in `docs/SPEC.md`: that `action_id` of an order and of its
//! plan agree, that `until` does not lie before `since`, the order of a remediation's phases, the size of a frame.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, transform::transform_subschemas};
use serde_json::{Map, Value, json};

use crate::{
    ActionKind, Effect, FromAgent, Plan, ToAgent, effect,
    frame::{EnrolAnswer, EnrolRequest, HelloAnswer, RenewAnswer, RenewRequest},
    legacy, registry,
    remediation::{self, Phase},
};

/// Every document by its name: `from-agent`, `to-agent`, `hello-answer`,
/// `enrol-request`, `enrol-answer`, `renew-request`, `renew-answer`, `plan`,
/// `legacy-from-agent`, `legacy-to-agent`, `ingest`, `registry`.
#[must_use]
pub fn documents() -> BTreeMap<&'static str, Value> {
    BTreeMap::from([
        ("from-agent", document::<FromAgent>("from-agent", "Frames that an agent sends")),
        ("to-agent", to_agent()),
        ("hello-answer", document::<HelloAnswer>("hello-answer", "Answer to the hello of version 1")),
        ("enrol-request", document::<EnrolRequest>("enrol-request", "Body of POST /southbound/v1/enroll")),
        ("enrol-answer", document::<EnrolAnswer>("enrol-answer", "Answer of POST /southbound/v1/enroll")),
        ("renew-request", document::<RenewRequest>("renew-request", "Body of POST /southbound/v1/renew")),
        ("renew-answer", document::<RenewAnswer>("renew-answer", "Answer of POST /southbound/v1/renew")),
        ("plan", plan()),
        ("legacy-from-agent", legacy_from_agent()),
        ("legacy-to-agent", legacy_to_agent()),
        ("ingest", ingest()),
        ("registry", registry()),
    ])
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_deserialize().into_generator()
}

/// One document of its own: it refers to nothing outside of it.
fn document<T: JsonSchema>(name: &str, title: &str) -> Value {
    finish(name, title, generator().into_root_schema_for::<T>())
}

fn finish(name: &str, title: &str, mut schema: Schema) -> Value {
    for_readers(&mut schema);
    schema.insert("$id".to_owned(), json!(format!("urn:farol:schema:v1:{name}")));
    schema.insert("title".to_owned(), json!(title));
    schema.to_value()
}

/// Comments are written for readers of the code: a link loses its brackets,
/// and a sentence that only points to another type goes.
fn for_readers(schema: &mut Schema) {
    if let Some(text) = schema.get("description").and_then(Value::as_str) {
        let told = text
            .strip_prefix("See [`")
            .and_then(|rest| rest.split_once("`]."))
            .map_or(text, |(_, rest)| rest)
            .replace("[`", "`")
            .replace("`]", "`")
            .trim()
            .to_owned();
        if told.is_empty() {
            schema.remove("description");
        } else {
            schema.insert("description".to_owned(), json!(told));
        }
    }
    whole_numbers(schema);
    transform_subschemas(&mut for_readers, schema);
}

/// Names of Rust's integers are no formats of JSON Schema; their bounds are.
fn whole_numbers(schema: &mut Schema) {
    let (least, most) = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => (0, u64::from(u8::MAX)),
        Some("uint16") => (0, u64::from(u16::MAX)),
        Some("uint32") => (0, u64::from(u32::MAX)),
        Some("uint64") => (0, u64::MAX),
        Some("int32") => (i64::from(i32::MIN), u64::from(i32::MAX.unsigned_abs())),
        Some("double") => {
            schema.remove("format");
            return;
        }
        _ => return,
    };
    schema.remove("format");
    schema.insert("minimum".to_owned(), json!(least));
    schema.insert("maximum".to_owned(), json!(most));
}

/// The schema of each kind's params, under its name.
fn params(generator: &mut SchemaGenerator, kind: ActionKind) -> Schema {
    match kind {
        ActionKind::CommandExec => generator.subschema_for::<effect::CommandExec>(),
        ActionKind::ServiceControl => generator.subschema_for::<effect::ServiceControl>(),
        ActionKind::ContainerControl => generator.subschema_for::<effect::ContainerControl>(),
        ActionKind::FileDiff => generator.subschema_for::<effect::FileDiff>(),
        ActionKind::FileApply => generator.subschema_for::<effect::FileApply>(),
        ActionKind::FileRollback => generator.subschema_for::<effect::FileRollback>(),
        ActionKind::LogsRead => generator.subschema_for::<effect::LogsRead>(),
        ActionKind::RemediationLook | ActionKind::RemediationRun => {
            generator.subschema_for::<remediation::Remediation>()
        }
    }
}

/// Rules that tie `params` to `kind`.
fn params_by_kind(generator: &mut SchemaGenerator, kinds: &[ActionKind]) -> Value {
    let rule = |kind: &ActionKind| {
        json!({
            "if": {"properties": {"kind": {"const": kind.as_str()}}, "required": ["kind"]},
            "then": {"properties": {"params": params(generator, *kind)}},
        })
    };
    kinds.iter().map(rule).collect()
}

/// The kinds of which a remediation is made.
fn alone() -> Vec<ActionKind> {
    ActionKind::ALL.into_iter().filter(|kind| !kind.is_remediation()).collect()
}

fn plan() -> Value {
    let mut generator = generator();
    let rules = params_by_kind(&mut generator, &ActionKind::ALL);
    let alone = alone();
    let of_steps = params_by_kind(&mut generator, &alone);
    let mut schema = generator.into_root_schema_for::<Plan>();
    schema.insert("allOf".to_owned(), rules);
    let mut document =
        finish("plan", "The document that an approval is bound to, in the field `plan` of an order", schema);
    bounds(&mut document);
    bounds_of_remediations(&mut document);
    let kinds: Vec<&str> = alone.iter().map(|kind| kind.as_str()).collect();
    extend(&mut document, "/$defs/EffectWork", &json!({"allOf": of_steps}));
    extend(&mut document, "/$defs/EffectWork/properties/kind", &json!({"enum": kinds}));
    extend(&mut document, "/properties/v", &json!({"const": 1}));
    // Null says that nothing was looked at; left out, it says nothing.
    if let Some(Value::Array(required)) = document.get_mut("required") {
        required.push(json!("pre_state"));
    }
    let sha256 = json!({"pattern": "^[0-9a-f]{64}$"});
    extend(&mut document, "/$defs/PreState/oneOf/2/properties/file_sha256", &sha256);
    document
}

fn to_agent() -> Value {
    let mut document =
        document::<ToAgent>("to-agent", "Frames that the coordinator sends, but for the answer to hello");
    // Every order's frame holds the same fields.
    let frames = document.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten();
    for frame in frames.filter(|frame| frame.pointer("/properties/plan").is_some()) {
        let plan = json!({"contentMediaType": "application/json",
            "description": "The text of one document by plan.json, whose exact bytes count."});
        extend(frame, "/properties/plan", &plan);
    }
    document
}

/// Adds what the code checks once the fields are read.
fn bounds(document: &mut Value) {
    let timeout = json!({"minimum": 1, "maximum": effect::MAX_TIMEOUT_MS});
    for kind in alone() {
        let name = type_name(kind);
        extend(document, &format!("/$defs/{name}/properties/timeout"), &timeout);
    }
    let text = json!({"minLength": 1, "pattern": NO_NUL});
    let path = json!({"pattern": PLAIN_PATH});
    let file = json!({"maxLength": effect::MAX_FILE_TEXT});
    let sha256 = json!({"pattern": "^[0-9a-f]{64}$"});
    for (place, what) in [
        ("CommandExec/properties/command", &text),
        ("CommandExec/properties/args/items", &json!({"pattern": NO_NUL})),
        ("CommandExec/properties/cwd", &json!({"pattern": "^/[^\\u0000]*$"})),
        ("ServiceControl/properties/service", &text),
        ("ContainerControl/properties/container", &text),
        ("FileDiff/properties/path", &path),
        ("FileDiff/properties/want", &file),
        ("FileApply/properties/path", &path),
        ("FileApply/properties/patch", &file),
        ("FileApply/properties/content", &file),
        ("FileApply/properties/expected_sha256", &sha256),
        ("FileApply/properties/mode", &json!({"maximum": 0o777})),
        ("LogsRead/properties/lines", &json!({"minimum": 1, "maximum": effect::MAX_LOG_LINES})),
    ] {
        extend(document, &format!("/$defs/{place}"), what);
    }
    let text_field = |field: &str| json!({"properties": {field: {"type": "string"}}, "required": [field]});
    let patched = json!({"required": ["patch", "expected_sha256"],
        "properties": {"patch": {"type": "string"}, "expected_sha256": {"type": "string"}, "content": {"type": "null"}}});
    let mut whole = text_field("content");
    extend(&mut whole, "/properties", &json!({"patch": {"type": "null"}}));
    extend(document, "/$defs/FileApply", &json!({"oneOf": [patched, whole]}));
    extend(document, "/$defs/LogSource/oneOf/0/properties/unit", &text);
    extend(document, "/$defs/LogSource/oneOf/1/properties/path", &path);
}

/// The same for remediations.
fn bounds_of_remediations(document: &mut Value) {
    extend(
        document,
        "/$defs/Remediation/properties/timeout",
        &json!({"minimum": 1, "maximum": effect::MAX_TIMEOUT_MS}),
    );
    let has = |phase: Phase| json!({"contains": {"properties": {"phase": {"const": phase.as_str()}}}});
    let steps = json!({"maxItems": remediation::MAX_STEPS, "allOf": [has(Phase::Modify), has(Phase::Verify)]});
    extend(document, "/$defs/Remediation/properties/steps", &steps);
    extend(document, "/$defs/Remediation/properties/entry", &json!({"minLength": 1, "maxLength": 100}));
    extend(document, "/$defs/Step/properties/id", &json!({"pattern": "^[a-z0-9_-]{1,40}$"}));
    let check = json!({"minimum": 10, "maximum": 300_000});
    extend(document, "/$defs/CheckWork/properties/timeout", &check);
    extend(document, "/$defs/CheckWork/properties/every", &json!({"maximum": effect::MAX_TIMEOUT_MS}));
    extend(
        document,
        "/$defs/CheckWork/properties/attempts",
        &json!({"minimum": 1, "maximum": remediation::MAX_ATTEMPTS}),
    );
    extend(document, "/$defs/CheckWork/properties/worst", &json!({"enum": ["ok", "warning"]}));
}

/// No NUL byte can be part of an argument.
const NO_NUL: &str = "^[^\\u0000]*$";
/// Absolute, without `.`, `..` or an empty part.
const PLAIN_PATH: &str = "^(/(?!\\.{1,2}(/|$))[^/\\u0000]+)+$";

fn type_name(kind: ActionKind) -> &'static str {
    match kind {
        ActionKind::CommandExec => "CommandExec",
        ActionKind::ServiceControl => "ServiceControl",
        ActionKind::ContainerControl => "ContainerControl",
        ActionKind::FileDiff => "FileDiff",
        ActionKind::FileApply => "FileApply",
        ActionKind::FileRollback => "FileRollback",
        ActionKind::LogsRead => "LogsRead",
        ActionKind::RemediationLook | ActionKind::RemediationRun => "Remediation",
    }
}

/// Adds the members of `more` to the object at `place`.
///
/// # Panics
/// There is no object: a type has changed and its bound must move with it.
fn extend(document: &mut Value, place: &str, more: &Value) {
    let Some(Value::Object(object)) = document.pointer_mut(place) else {
        unreachable!("the schema has nothing at {place}");
    };
    object.extend(more.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
}

/// Requires `method` to be `name`.
fn with_method(schema: &mut Schema, name: &str) {
    let object = schema.ensure_object();
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.insert("method".to_owned(), json!({"const": name}));
    }
    let required = object.entry("required").or_insert_with(|| json!([]));
    if let Value::Array(required) = required
        && !required.iter().any(|field| field == "method")
    {
        required.insert(0, json!("method"));
    }
}

fn any_of(name: &str, title: &str, mut generator: SchemaGenerator, parts: Vec<Schema>) -> Value {
    let mut schema = Schema::try_from(json!({"anyOf": parts})).unwrap_or_default();
    let definitions: Map<String, Value> = generator.take_definitions(true);
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("$defs".to_owned(), Value::Object(definitions));
    finish(name, title, schema)
}

fn legacy_from_agent() -> Value {
    let mut generator = generator();
    let mut hello = <legacy::Hello as JsonSchema>::json_schema(&mut generator);
    with_method(&mut hello, "hello");
    let mut push = <legacy::TelemetryPush as JsonSchema>::json_schema(&mut generator);
    with_method(&mut push, "telemetry.push");
    let answer = <legacy::ExecAnswer as JsonSchema>::json_schema(&mut generator);
    any_of(
        "legacy-from-agent",
        "Frames of a peer without a version: its hello, a batch, or the answer to its order",
        generator,
        vec![hello, push, answer],
    )
}

fn legacy_to_agent() -> Value {
    let mut generator = generator();
    let hello = <legacy::HelloAnswer as JsonSchema>::json_schema(&mut generator);
    let answer = <legacy::Answer as JsonSchema>::json_schema(&mut generator);
    let mut exec = <legacy::Exec as JsonSchema>::json_schema(&mut generator);
    with_method(&mut exec, "command.exec");
    any_of(
        "legacy-to-agent",
        "Frames to a peer without a version: the answer to its hello or batch, or its order",
        generator,
        vec![hello, answer, exec],
    )
}

/// The body of `POST /ingest`, whose fields other programs have fixed. Open.
fn ingest() -> Value {
    let text = |what: &str| json!({"type": ["string", "null"], "description": what});
    // Programs that count in floating point write `1024.0`, which is an integer here.
    let bytes = json!({"type": "integer", "minimum": 0});
    let load = json!({"type": ["array", "null"], "items": {"type": "number", "minimum": 0}, "minItems": 3, "maxItems": 3,
        "description": "Load averages of 1, 5 and 15 minutes."});
    let mem = json!({"type": ["object", "null"], "required": ["total", "free"],
        "properties": {"total": bytes, "free": bytes}, "description": "Bytes; `free` is at most `total`."});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:farol:schema:v1:ingest",
        "title": "Body of POST /ingest: one reading of a telemetry agent without a certificate",
        "type": "object",
        "required": ["hostname", "timestamp", "os"],
        "properties": {
            "hostname": {"type": "string", "pattern": "^\\S{1,253}$",
                "description": "The host; with `timestamp` the identity of the reading."},
            "timestamp": {"type": "string", "format": "date-time", "description": "When it was read, with an offset."},
            "processes": text("The 20 processes that use most CPU: pid, command, %cpu, %mem."),
            "netstat": text("Output of `ss -s`, or of what the system has instead."),
            "iostat": text("Output of `iostat`; may be empty."),
            "os": {"type": "object", "properties": {"hostname": {"type": "string"}, "load": load, "mem": mem}},
        },
    })
}

fn registry() -> Value {
    let mut generator = generator();
    let rules = params_by_kind(&mut generator, &alone());
    let root = registry::schema(generator);
    let mut document = finish("registry", "registry.yaml: hosts, sites, scenarios, thresholds and routing", root);
    extend(&mut document, "/properties/version", &json!({"const": 1}));
    extend(&mut document, "/$defs/ProposalDoc", &json!({"allOf": rules}));
    let kinds: Vec<&str> = alone().iter().map(|kind| kind.as_str()).collect();
    extend(&mut document, "/$defs/ProposalDoc/properties/kind", &json!({"enum": kinds}));
    bounds(&mut document);
    document
}

/// Kinds whose parameters [`Effect`] reads; a new one must get its schema above.
const _: fn(&Effect) -> ActionKind = Effect::kind;
