//! The simulation's control endpoint, as anything that speaks HTTP can use it.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::awssim::{Scenario, Sim};

async fn request(sim: &Sim, method: &'static str, path: &'static str, body: String) -> (u16, String) {
    let address = sim.address;
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} /_sim/{path} HTTP/1.1\r\nHost: sim\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn the_world_is_changed_and_the_truth_follows() {
    let sim = Sim::start(&Scenario::calm(2), 0).await.unwrap();
    let caller = sim.world_caller();
    let member = sim.members().remove(0);
    let changes = json!([
        {"add_analyzer": {"account": caller, "region": "us-east-1", "name": "org", "type": "ORGANIZATION"}},
        {"enable_region": {"account": member, "region": "af-south-1"}},
        {"add_account": {"account": "000000000042", "name": "new"}},
        {"weather": {"rules": [{"service": "sts", "effect": "throttle", "probability": 0.5}]}},
    ]);
    let (status, body) = request(&sim, "POST", "change", changes.to_string()).await;
    assert_eq!((status, body.as_str()), (200, "{\"changes\":4}"));
    let truth: Vec<Value> = serde_json::from_str(&request(&sim, "GET", "truth", String::new()).await.1).unwrap();
    let of = |account: &str, region: &str| {
        truth.iter().find(|row| row["account_id"] == account && row["region"] == region).unwrap()["reason"].clone()
    };
    assert_eq!(of(&member, "us-east-1"), "organization_analyzer");
    assert_eq!(of(&member, "af-south-1"), "no_analyzer");
    assert_eq!(of("000000000042", "us-east-1"), "organization_analyzer");

    let deregister = json!([{"deregister_delegated_administrator": {"account": caller}}]);
    request(&sim, "POST", "change", deregister.to_string()).await;
    let world: Value = serde_json::from_str(&request(&sim, "GET", "world", String::new()).await.1).unwrap();
    let analyzer = &world["analyzers"][&caller]["us-east-1"][0];
    assert_eq!(analyzer["status_reason"], "DELEGATED_ADMINISTRATOR_DEREGISTERED");
}

#[tokio::test]
async fn a_change_that_cannot_be_read_changes_nothing() {
    let sim = Sim::start(&Scenario::calm(1), 0).await.unwrap();
    let (status, _) = request(&sim, "POST", "change", "[{\"suspend\": {}}]".into()).await;
    assert_eq!(status, 400);
    let (status, body) = request(&sim, "POST", "change", "[{\"suspend_account\": {\"account\": \"1\"}}]".into()).await;
    assert_eq!((status, body.as_str()), (400, "no account 1\n"));
}
