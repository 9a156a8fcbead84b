//! A process that dies in the middle of a conversation.

use super::planning;
use crate::double::Double;
use crate::double::operator::Operator;
use crate::repair::crash::{Fault, survives_each_write};
use harness::operator::Halves;

#[tokio::test]
async fn an_agent_that_dies_after_any_of_its_writes_is_succeeded_by_a_new_conversation_to_the_same_end() {
    let double = Double::start(Operator).await;
    survives_each_write(Halves::Agent, Fault::ProcessDies, &planning(&double)).await;
    assert_eq!(double.rejections(), Vec::<String>::new());
}

#[tokio::test]
async fn an_agent_whose_answer_is_lost_at_any_write_goes_on_in_its_conversation() {
    let double = Double::start(Operator).await;
    survives_each_write(Halves::Agent, Fault::AnswerIsLost, &planning(&double)).await;
    assert_eq!(double.rejections(), Vec::<String>::new());
}
