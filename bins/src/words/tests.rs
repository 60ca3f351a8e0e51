use super::*;
use crate::api::types::*;

fn peer(name: &str) -> Peer {
    Peer {
        device_id: name.into(),
        address: "192.168.1.102:9999".into(),
        dialect: "bidmesh".into(),
        boot: None,
        health: "alive".into(),
        suspicion: Some(0.3),
        heard_ms_ago: Some(1_200),
        bid: None,
        bid_ms_ago: None,
        awards: 0,
        free: 1,
        listed: true,
        speed: None,
    }
}

fn some_speed() -> SpeedView {
    SpeedView {
        total_ms: 1_700,
        first_text_ms: Some(120),
        prompt_tokens: Some(37),
        tokens: Some(39),
        tokens_per_second: Some(24.05),
    }
}

fn npu_bid() -> BidView {
    BidView {
        has_npu: true,
        cpu_load: Some(0.129),
        ram_load: Some(0.5),
        battery: Some(80),
        charging: Some(true),
        slots: Some(1),
        running: Some(0),
        yours: Some(0),
    }
}

fn some_peers() -> Vec<Peer> {
    vec![
        Peer {
            bid: Some(npu_bid()),
            bid_ms_ago: Some(9_000),
            awards: 1,
            free: 0,
            speed: Some(some_speed()),
            ..peer("Device_B")
        },
        Peer {
            dialect: "shell_literal".into(),
            health: "suspect".into(),
            suspicion: Some(6.25),
            heard_ms_ago: None,
            address: "10.0.0.7:9999".into(),
            bid: Some(BidView { ram_load: Some(0.0675015), ..BidView::default() }),
            ..peer("Old_Phone")
        },
    ]
}

fn some_status() -> Status {
    Status {
        device_id: "Device_A".into(),
        boot: "k7q2m000".into(),
        version: "0.1.0".into(),
        pid: 4242,
        directory: Some("/data/local/tmp/mesh".into()),
        address: Some("192.168.1.101:9999".into()),
        uptime_ms: 7_500_000,
        refuses: None,
        refuses_words: None,
        slots: 2,
        sensors: SensorsView {
            cpu_load: Some(0.25),
            ram_load: None,
            battery: Some(64),
            charging: Some(false),
            temperature: Some(31.46),
        },
        executor: ExecutorView {
            available: true,
            npu: true,
            slots: None,
            why: "command /data/local/tmp/run_slm.sh".into(),
        },
        runs: vec![RunView {
            from: "Device_B".into(),
            label: "task_0123456789abc.1.k7q2m".into(),
            age_ms: 3_000,
            bytes: 1_536,
        }],
        kept_results: 1,
        peers: some_peers(),
        tasks: vec![TaskView {
            task_id: "task_zzz".into(),
            phase: "running".into(),
            age_ms: 4_100,
            position: None,
            attached: true,
            priority: 5,
            device_id: Some("Device_B".into()),
            attempts: 1,
            bytes: 120,
        }],
        queue: vec![QueueView { priority: 9, waiting: 3, longest_ms: 12_000 }],
        usage: vec![
            UsageView { what: "peers".into(), size: 2, limit: 1024 },
            UsageView { what: "tombstones".into(), size: 4090, limit: 4096 },
        ],
    }
}

fn some_decision() -> DecisionView {
    let answered = |device: &str, at_ms, answer| AnsweredView { device_id: device.into(), at_ms, answer };
    let plain = BidView { cpu_load: Some(0.07), ..BidView::default() };
    let ranked = |device: &str, has_npu, cpu_load| RankedView {
        device_id: device.into(),
        has_npu,
        cpu_load,
        battery: None,
        score: None,
        tried: false,
    };
    DecisionView {
        task_id: "task_0123456789abc".into(),
        submitted_ms_ago: 15_000,
        prompt_bytes: 27,
        policy: "npu-first".into(),
        priority: 5,
        auctions: vec![AuctionView {
            opened_ms: 0,
            closed_ms: Some(812),
            answers: vec![
                answered("Device_A", 0, AnswerView::Bid { bid: plain }),
                answered("Device_B", 12, AnswerView::Bid { bid: npu_bid() }),
                answered(
                    "Device_C",
                    14,
                    AnswerView::Refused {
                        reason: "battery".into(),
                        words: "its battery is low and not charging".into(),
                        retry_after_ms: None,
                    },
                ),
                answered(
                    "Device_D",
                    15,
                    AnswerView::Refused {
                        reason: "busy".into(),
                        words: "all its slots are taken".into(),
                        retry_after_ms: Some(2_000),
                    },
                ),
                answered("Old_Phone", 812, AnswerView::Unreachable { why: "refused the connection".into() }),
                answered("Tablet", 812, AnswerView::Silent),
                answered("Watch", 0, AnswerView::KnownBusy),
            ],
            winner: Some("Device_B".into()),
            order: vec![ranked("Device_B", true, Some(0.129)), ranked("Device_A", false, Some(0.07))],
            why: Some("Device_B won: it has an NPU, and none of the others has one free".into()),
        }],
        happened: vec![
            HappeningView { at_ms: 812, what: "awarded to Device_B".into() },
            HappeningView { at_ms: 820, what: "Device_B accepted".into() },
        ],
        outcome: Some(DecisionOutcome {
            status: "completed".into(),
            device_id: Some("Device_B".into()),
            output_bytes: 120,
            attempts: 1,
            why: "Device_B answered".into(),
            written: "not_kept".into(),
            speed: Some(some_speed()),
        }),
        ended_ms: Some(3_210),
        dropped_lines: 0,
    }
}

fn some_outcome(status: &str) -> OutcomeView {
    OutcomeView {
        task_id: "task_0123456789abc".into(),
        status: status.into(),
        device_id: Some("Device_B".into()),
        output: "text".into(),
        attempts: 1,
        why: "every device refused: Device_C (its battery is low and not charging)".into(),
        written: "not_kept".into(),
        speed: None,
    }
}

#[test]
fn status_of_a_working_device() {
    insta::assert_snapshot!(status(&some_status()));
}

#[test]
fn status_of_a_device_that_refuses_and_knows_nothing() {
    let status = Status {
        address: None,
        refuses: Some("no_executor".into()),
        refuses_words: Some("nothing there can run a prompt".into()),
        sensors: SensorsView::default(),
        executor: ExecutorView { available: false, npu: false, slots: None, why: String::new() },
        runs: vec![],
        kept_results: 0,
        peers: vec![],
        tasks: vec![],
        usage: vec![],
        ..some_status()
    };
    insta::assert_snapshot!(super::status(&status));
}

#[test]
fn why_a_prompt_went_where_it_went() {
    insta::assert_snapshot!(why(&some_decision()));
}

#[test]
fn why_of_two_auctions_by_points() {
    let mut decision = some_decision();
    decision.policy = "weighted".into();
    decision.dropped_lines = 3;
    let mut second = decision.auctions[0].clone();
    for ranked in &mut second.order {
        ranked.score = Some(61.25);
    }
    (second.opened_ms, second.closed_ms) = (5_000, None);
    decision.auctions.push(second);
    (decision.outcome, decision.ended_ms) = (None, None);
    insta::assert_snapshot!(why(&decision));
}

#[test]
fn list_of_decisions() {
    let open = DecisionView { outcome: None, ended_ms: None, task_id: "task_open".into(), ..some_decision() };
    insta::assert_snapshot!(why_list(&[some_decision(), open]));
    assert!(why_list(&[]).contains("bidmesh ask"));
}

#[test]
fn the_line_at_the_end_of_an_answer() {
    let decision = some_decision();
    let mut few = decision.clone();
    few.auctions[0].answers.truncate(2);
    let lines = [
        asked(&some_outcome("completed"), Some(&decision), 3_210),
        asked(&OutcomeView { attempts: 2, ..some_outcome("completed") }, Some(&few), 3_210),
        asked(&some_outcome("completed"), None, 3_210),
        asked(&OutcomeView { speed: Some(some_speed()), ..some_outcome("completed") }, None, 1_830),
        asked(&OutcomeView { speed: Some(SpeedView::default()), ..some_outcome("completed") }, None, 1_830),
        asked(&some_outcome("decided"), Some(&few), 812),
    ];
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn the_line_of_a_prompt_without_an_answer() {
    let mut alone = some_decision();
    alone.auctions[0].answers.clear();
    let lines = [
        not_answered(&some_outcome("nobody"), Some(&some_decision()), 10_000),
        not_answered(&some_outcome("nobody"), Some(&alone), 0),
        not_answered(&OutcomeView { why: String::new(), ..some_outcome("expired") }, None, 60_000),
        not_answered(&some_outcome("cancelled"), None, 400),
        not_answered(&some_outcome("failed"), None, 400),
    ];
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn where_an_answer_broke_off() {
    let broken =
        |why: &str| broken_off(&BrokenOff { device_id: "Device_B".into(), shown: 120, why: why.into() });
    let line = "[Device_B went silent after 120 bytes; the answer starts again]";
    assert_eq!([broken("went silent"), broken("Device_B went silent")], [line, line]);
}
