//! Frames of version 1, in both directions, and the answer to hello.

use std::fmt::Debug;

use farol_protocol::{
    FromAgent, Plan, ToAgent,
    frame::{self, EnrolRequest, FrameError, HelloAnswer},
    inventory::Section,
};
use serde::{Serialize, de::DeserializeOwned};

/// A refusal fits many times into a frame, whatever was refused.
const LONGEST_REFUSAL: usize = 4096;

/// What is read can be written and read again without change; what is not is
/// refused in words that fit a frame.
///
/// # Panics
/// It does not hold.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match FromAgent::parse(text) {
        Ok(frame) => same_again(&written_as(frame), |text| FromAgent::parse(text).ok()),
        Err(error) => refusal(&error),
    }
    match ToAgent::parse(text) {
        Ok(frame) => {
            same_again(&frame, |text| ToAgent::parse(text).ok());
            order(frame);
        }
        Err(error) => refusal(&error),
    }
    document::<HelloAnswer>(text);
    document::<EnrolRequest>(text);
}

/// What cannot be read of an inventory is told apart and never sent on.
fn written_as(mut frame: FromAgent) -> FromAgent {
    if let FromAgent::TelemetryPush(push) = &mut frame
        && matches!(push.payload.inventory.as_deref(), Some(Section::Malformed(_)))
    {
        push.payload.inventory = None;
    }
    frame
}

fn document<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &str) {
    if let Ok(read) = serde_json::from_str::<T>(text) {
        same_again(&read, |text| serde_json::from_str(text).ok());
    }
}

pub(crate) fn same_again<T: Serialize + PartialEq + Debug>(read: &T, again: impl Fn(&str) -> Option<T>) {
    let written = frame::encode(read);
    let Some(second) = again(&written) else { panic!("what was written cannot be read: {written}") };
    assert_eq!(&second, read, "it changed when it was written: {written}");
    assert_eq!(frame::encode(&second), written);
}

pub(crate) fn refusal(error: &FrameError) {
    assert!(!error.message.is_empty());
    let answer = frame::encode(&frame::ErrorFrame::from(error.clone()));
    assert!(answer.len() <= LONGEST_REFUSAL, "the refusal has {} bytes: {answer:.200}", answer.len());
}

/// An order keeps its kind and its plan's bytes on the way through its frame.
fn order(frame: ToAgent) {
    let Ok((kind, order)) = frame.into_order() else { return };
    let plan = order.plan.clone();
    let Ok((again, same)) = ToAgent::order(kind, order).into_order() else { panic!("an order is an order") };
    assert_eq!((again, &same.plan), (kind, &plan));
    if let Ok((_, effect)) = Plan::parse(&plan) {
        crate::plan::effect_is_bounded(&effect);
    }
}
