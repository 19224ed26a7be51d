//! Which objects there are, as one thread knows it.
//!
//! Who works on an object takes it out, and gives it back with what became of it.

use super::Operation;

/// An object, and when it was last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) number: u64,
    pub(super) revision: i64,
}

/// The objects of a thread: one in every so many numbers.
pub(super) struct Objects {
    present: Vec<Object>,
    /// Deleted ones, to be created again.
    absent: Vec<u64>,
    /// The first that never was.
    next: u64,
    step: u64,
}

impl Objects {
    pub(super) fn new(first: u64, step: u64) -> Objects {
        Objects { present: Vec::new(), absent: Vec::new(), next: first, step }
    }

    /// `wanted`, or a creation if it needs an object and there is none that nobody works on.
    pub(super) fn possible(&self, wanted: Operation) -> Operation {
        let needs_one = matches!(wanted, Operation::Update | Operation::Delete | Operation::Get);
        if needs_one && self.present.is_empty() { Operation::Create } else { wanted }
    }

    /// One that does not exist.
    pub(super) fn take_absent(&mut self) -> Object {
        let number = self.absent.pop().unwrap_or_else(|| {
            self.next += self.step;
            self.next - self.step
        });
        Object { number, revision: 0 }
    }

    /// One that never was, of those below `end`.
    pub(super) fn take_absent_below(&mut self, end: u64) -> Option<Object> {
        (self.next < end).then(|| self.take_absent())
    }

    /// One that exists; there must be one.
    pub(super) fn take_present(&mut self, random: u64) -> Object {
        let nth = random % self.present.len() as u64;
        self.present.swap_remove(nth as usize)
    }

    /// The number of one that exists, not taken; there must be one.
    pub(super) fn present(&self, random: u64) -> u64 {
        self.present[(random % self.present.len() as u64) as usize].number
    }

    pub(super) fn give_present(&mut self, object: Object) {
        self.present.push(object);
    }

    pub(super) fn give_absent(&mut self, object: Object) {
        self.absent.push(object.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_no_object() {
        let mut threads = [Objects::new(0, 2), Objects::new(1, 2)];
        let mut numbers: Vec<u64> = Vec::new();
        for objects in &mut threads {
            while let Some(object) = objects.take_absent_below(7) {
                numbers.push(object.number);
                objects.give_present(object);
            }
        }
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn objects_come_and_go() {
        let mut objects = Objects::new(0, 1);
        assert_eq!(objects.possible(Operation::Delete), Operation::Create);
        assert_eq!(objects.possible(Operation::List), Operation::List);
        let object = objects.take_absent();
        objects.give_present(Object { revision: 5, ..object });
        assert_eq!(
            (objects.possible(Operation::Delete), objects.present(9)),
            (Operation::Delete, 0)
        );
        let taken = objects.take_present(9);
        assert_eq!(taken, Object { number: 0, revision: 5 });
        assert_eq!(objects.possible(Operation::Update), Operation::Create, "it is taken");
        objects.give_absent(taken);
        assert_eq!(objects.take_absent(), Object { number: 0, revision: 0 });
        assert_eq!(objects.take_absent().number, 1);
    }
}
