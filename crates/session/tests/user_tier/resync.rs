//! Tests of attaching again after a link was cut.

use super::*;
use crate::owner::Disturbance;

async fn cut(world: &World) {
    world.owner.anew.store(true, Ordering::Relaxed);
    until("the link begins anew", async || !world.owner.anew.load(Ordering::Relaxed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_is_new_after_a_cut_is_told_though_its_first_attach_was_refused() {
    let world = World::new().await;
    world.store.active("ann", "r");
    let (ann, _) = SocketlessClient::sign_in(&world.handle, "ann").await;
    world.owner.disturb("new", Some(Disturbance::Unavailable));
    world.store.active("ann", "new");
    cut(&world).await;
    until("an attach to be refused", async || world.owner.disturbances.load(Ordering::Relaxed) > 1).await;
    world.owner.disturb("new", None);
    assert_eq!(ann.next_of("room_added").await["info"]["room"], "new");
    assert_eq!(world.owner.audience("new"), ["ann"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_stays_away_after_a_cut_holds_up_no_other_nor_a_later_cut() {
    let world = World::new().await;
    for room in ["r", "away"] {
        world.store.active("ann", room);
    }
    let (ann, _) = SocketlessClient::sign_in(&world.handle, "ann").await;
    for (room, disturbance) in [("away", Disturbance::Unavailable), ("away", Disturbance::Silent)] {
        world.owner.disturb(room, Some(disturbance));
        cut(&world).await;
        until("the attach that stays away", async || world.owner.disturbances.load(Ordering::Relaxed) > 0).await;
        world.owner.happen("r", 1);
        cut(&world).await;
        let event = ann.next_of("event").await;
        assert_eq!(event["room"], "r");
        until("the room to have its audience again", async || world.owner.audience("r") == ["ann"]).await;
        world.owner.disturb(room, None);
        world.owner.disturbances.store(0, Ordering::Relaxed);
    }
    until("the other room to come back", async || world.owner.audience("away") == ["ann"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_is_gone_after_a_cut_is_told() {
    let world = World::new().await;
    for room in ["r", "left"] {
        world.store.active("ann", room);
    }
    let (ann, _) = SocketlessClient::sign_in(&world.handle, "ann").await;
    world.owner.disturb("left", Some(Disturbance::Gone));
    cut(&world).await;
    let removed = ann.next_of("room_removed").await;
    assert_eq!((&removed["room"], &removed["reason"]), (&"left".into(), &"left".into()));
    ann.say(&send("1"));
    assert_eq!(ann.seqs(1).await, [1]);
}
