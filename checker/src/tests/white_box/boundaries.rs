//! Where the rules end: stories that are only just legal, and what makes them illegal.

use super::*;

/// What fires when `more` comes after the story.
fn after(more: &[Event]) -> Vec<String> {
    let events: Vec<Event> = story().into_iter().chain(more.iter().cloned()).collect();
    fired(&judge(&events)).into_iter().map(str::to_owned).collect()
}

/// A moment passes, in which a controller settles what it has fenced.
fn a_moment() -> [Event; 3] {
    [7, 8, 9].map(|broker| Says(102, 0, registered(broker, 20 + i64::from(broker))))
}

#[test]
fn a_fenced_broker_may_stay_in_an_isr_as_the_last() {
    let fenced_with = |isr: &[i32]| {
        let events = [Says(102, 0, changed(Some(2), 1, 3, isr)), Says(102, 0, fenced(2, 2))];
        after(&[&events[..], &a_moment()].concat())
    };
    assert_eq!(fenced_with(&[2]), Vec::<String>::new());
    assert_eq!(fenced_with(&[2, 3]), ["isr-unfenced"]);
}

#[test]
fn a_controller_that_is_active_again_goes_on_from_what_another_told_meanwhile() {
    let another = Says(103, 0, changed(Some(2), 1, 3, &[2, 1]));
    let again = |partition_epoch: i32| Says(102, 0, changed(Some(2), 1, partition_epoch, &[2]));
    assert_eq!(after(&[another.clone(), again(4)]), Vec::<String>::new());
    assert_eq!(after(&[another, again(5)]), ["registration-epochs"]);
}
