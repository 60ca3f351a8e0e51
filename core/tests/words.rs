//! What people and logs read: the words of each reason, and how numbers and names are shown.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use bidmesh_core::draw::Seed;
use bidmesh_core::id::{DeviceId, ID_BYTES_MAX};
use bidmesh_core::input::{SendFailure, Submission, Written};
use bidmesh_core::load::{DeciCelsius, Percent};
use bidmesh_core::outbox::{OutcomeStatus, Refusal, Unsaid};
use bidmesh_core::policy::Policy;
use bidmesh_core::restore::Restored;
use bidmesh_core::wire::Reason;
use bidmesh_core::{Config, Device, Identity, Input, Outbox, Time};

#[test]
fn every_refusal_says_what_to_do() {
    let refusals = [
        Refusal::Leaving,
        Refusal::EmptyPrompt,
        Refusal::PromptTooLong,
        Refusal::NobodyEligible,
        Refusal::QueueFull,
        Refusal::ClientFull,
        Refusal::NotDurable,
    ];
    let mut lines: Vec<String> =
        refusals.iter().map(|refusal| format!("{refusal:?}: {}", refusal.words())).collect();
    for unsaid in [Unsaid::UnknownDevice, Unsaid::NotDelivered(SendFailure::Refused)] {
        lines.push(format!("{unsaid:?}: {}", unsaid.words()));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn every_failure_and_every_reason_is_half_a_sentence_about_a_device() {
    let failures = [
        SendFailure::Refused,
        SendFailure::Unreachable,
        SendFailure::Reset,
        SendFailure::Ambiguous,
        SendFailure::NotSpoken,
        SendFailure::TooLong,
        SendFailure::Overloaded,
    ];
    let reasons = Reason::known().chain([Reason::Other("the moon is full".into())]);
    let failures = failures.iter().map(|why| format!("it {}", why.words()));
    let reasons = reasons.map(|why| format!("{why}: {}", why.words()));
    insta::assert_snapshot!(failures.chain(reasons).collect::<Vec<_>>().join("\n"));
}

#[test]
fn words_in_json_are_the_words_in_logs() {
    for written in [Written::Durable, Written::Kept, Written::NotKept, Written::Failed] {
        assert_eq!(serde_json::to_value(written).unwrap(), written.as_str());
    }
    for status in [
        OutcomeStatus::Completed,
        OutcomeStatus::Failed,
        OutcomeStatus::Nobody,
        OutcomeStatus::Expired,
        OutcomeStatus::Cancelled,
        OutcomeStatus::Decided,
    ] {
        assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
    }
}

#[test]
fn numbers_are_shown_with_their_units() {
    assert_eq!(Percent::new(7).unwrap().to_string(), "7%");
    for (tenths, shown) in
        [(451, "45.1 °C"), (450, "45.0 °C"), (0, "0.0 °C"), (-5, "-0.5 °C"), (-121, "-12.1 °C")]
    {
        assert_eq!(DeciCelsius(tenths).to_string(), shown);
    }
}

#[test]
fn policies_are_read_by_the_names_that_they_show() {
    for policy in [Policy::NpuFirst, Policy::Weighted] {
        assert_eq!(policy.to_string().parse::<Policy>().unwrap(), policy);
    }
    let error = "cheapest".parse::<Policy>().unwrap_err();
    assert_eq!(error.to_string(), "no such policy; there are `npu-first` and `weighted`");
}

#[test]
fn an_id_is_as_long_as_the_limit_at_most() {
    assert!(DeviceId::new(&"a".repeat(ID_BYTES_MAX)).is_ok());
    assert!(DeviceId::new(&"a".repeat(ID_BYTES_MAX + 1)).is_err());
}

#[test]
fn devices_that_are_equal_have_the_same_hash_and_others_have_not() {
    let device = || {
        let me = Identity { device: DeviceId::new("A").unwrap(), address: None };
        Device::new(me, Seed::from(1), Config::default(), Restored::default())
    };
    let hash = |device: &Device| {
        let mut hasher = DefaultHasher::new();
        device.hash(&mut hasher);
        hasher.finish()
    };
    let mut other = device();
    assert_eq!(hash(&device()), hash(&other));
    other.handle(Time::ZERO, Input::Submit(Submission::new(1, "hello")), &mut Outbox::default());
    assert_ne!(hash(&device()), hash(&other));
}
