//! The decision record of a task, in words.

use std::fmt::Write;

use super::{bid, share};
use crate::api::types::{AnswerView, AuctionView, DecisionView};
use crate::duration;
use crate::table::Table;

/// `why TASK`: who was asked and said what, who won and why, what happened then, how it ended.
pub fn why(decision: &DecisionView) -> String {
    let mut text = format!("{}  {}\n", decision.task_id, ended(decision));
    let _ = writeln!(
        text,
        "  a prompt of {}, submitted {} ago, priority {}, policy {}",
        duration::bytes(decision.prompt_bytes as u64),
        duration::words(decision.submitted_ms_ago),
        decision.priority,
        decision.policy
    );
    let many = decision.auctions.len() > 1;
    for (number, auction) in decision.auctions.iter().enumerate() {
        let name = if many { format!("Auction {}", number + 1) } else { "Auction".into() };
        let _ = write!(text, "\n{name}, {}\n{}", span(auction), self::auction(auction));
    }
    if !decision.happened.is_empty() {
        let mut happened = Table::bare();
        for happening in &decision.happened {
            happened.row([duration::words(happening.at_ms), happening.what.clone()]);
        }
        let _ = write!(text, "\nWhat happened\n{}", happened.render(2));
    }
    if decision.dropped_lines > 0 {
        let _ = writeln!(text, "  ({} further lines found no room)", decision.dropped_lines);
    }
    if let Some(outcome) = &decision.outcome {
        let _ = writeln!(text, "\nOutcome: {}", outcome.why);
        if outcome.written == "failed" {
            text.push_str("It could not be written to disk: free some space.\n");
        }
    }
    text
}

fn ended(decision: &DecisionView) -> String {
    let Some(outcome) = &decision.outcome else { return "is still open".into() };
    let device = outcome.device_id.as_deref().map_or_else(String::new, |device| format!(" by {device}"));
    let after =
        decision.ended_ms.map_or_else(String::new, |millis| format!(" after {}", duration::words(millis)));
    let attempts = match outcome.attempts {
        0 | 1 => String::new(),
        count => format!(", {count} attempts"),
    };
    format!("{}{device}{after}{attempts}", outcome.status)
}

fn span(auction: &AuctionView) -> String {
    let from = duration::words(auction.opened_ms);
    match auction.closed_ms {
        Some(closed) => format!("{from} to {}", duration::words(closed)),
        None => format!("open since {from}"),
    }
}

fn auction(auction: &AuctionView) -> String {
    let mut answers = Table::bare();
    for answered in &auction.answers {
        answers.row([answered.device_id.clone(), duration::words(answered.at_ms), answer(&answered.answer)]);
    }
    let mut text = answers.render(2);
    if auction.order.len() > 1 {
        let place = |(place, ranked): (usize, &crate::api::types::RankedView)| {
            let points = match ranked.score {
                Some(score) => format!(" ({score:.1} points)"),
                None => format!(" (cpu {})", share(ranked.cpu_load)),
            };
            format!("{}. {}{points}", place + 1, ranked.device_id)
        };
        let order: Vec<String> = auction.order.iter().enumerate().map(place).collect();
        let _ = writeln!(text, "  order: {}", order.join(", "));
    }
    if let Some(why) = &auction.why {
        let _ = writeln!(text, "  {why}");
    }
    text
}

fn answer(answer: &AnswerView) -> String {
    match answer {
        AnswerView::Bid { bid: offered } => format!("bid: {}", bid(offered)),
        AnswerView::Refused { words, retry_after_ms: None, .. } => format!("refused: {words}"),
        AnswerView::Refused { words, retry_after_ms: Some(millis), .. } => {
            format!("refused: {words}, ask again in {}", duration::words(*millis))
        }
        AnswerView::Unreachable { why } => format!("not reached: it {why}"),
        AnswerView::Silent => "said nothing".into(),
        AnswerView::KnownBusy => "not asked: known to be full".into(),
    }
}

/// `why --list`: the records that are kept, newest first.
pub fn why_list(decisions: &[DecisionView]) -> String {
    if decisions.is_empty() {
        return "no prompt has been decided here yet; ask one with `bidmesh ask`\n".into();
    }
    let mut table = Table::new(["TASK", "SUBMITTED", "OUTCOME"]);
    for decision in decisions.iter().rev() {
        let submitted = format!("{} ago", duration::words(decision.submitted_ms_ago));
        table.row([decision.task_id.clone(), submitted, ended(decision)]);
    }
    table.render(0)
}
