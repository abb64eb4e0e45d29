use super::*;

#[test]
fn after_a_reconnect_all_is_subscribed_to_again_and_waiters_wait_for_that() {
    let mut table = SubscriptionTable::default();
    let (tell, mut known) = oneshot::channel();
    table.users.insert(4, UserId::parse("a.b").unwrap());
    table.waiting.push(tell);
    table.connected();
    assert_eq!(String::from_utf8_lossy(&table.out), "SUB sendpi.user.a=2Eb 4\r\nPING\r\n");
    table.connected = false;
    table.connected();
    assert!(known.try_recv().is_err());
    table.pong();
    assert!(known.try_recv().is_ok());
}

#[test]
fn a_herd_of_sign_ins_does_not_make_the_server_look_dead() {
    let mut table = SubscriptionTable::default();
    table.connected();
    (0..5).for_each(|_| table.ping());
    assert!(table.tick() && table.tick());
    assert!(!table.tick(), "nothing was heard from the server in the meantime");
    table.connected();
    assert!(table.tick());
}
