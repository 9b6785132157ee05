//! Panics as errors: tract, the tokenizers' library and our own code may panic on a damaged file, and
//! a daemon must survive that.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The result of `work`; an error is what it panicked with, and where. Whatever `work` has changed
/// must not be used after a panic.
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    result.map_err(|payload| {
        let message = text_of(payload.as_ref());
        match LOCATION.take() {
            Some(location) => format!("{message}, at {location}"),
            None => message,
        }
    })
}

/// For the panic hook: takes note of a panic that [`catch_panic`] will return as an error, and says
/// whether it is one. Such a panic is not reported twice.
#[must_use]
pub fn note_panic(info: &PanicHookInfo<'_>) -> bool {
    if GUARDED.get() {
        LOCATION.set(info.location().map(|l| {
            let file = l.file();
            // Of a dependency only its name and version: where registries keep their sources says
            // nothing.
            let short = file
                .rsplit_once("/src/")
                .map_or(file.to_owned(), |(package, file)| {
                    let package = package.rsplit('/').next().unwrap_or_default();
                    format!("{package}/src/{file}")
                });
            format!("{short}:{}", l.line())
        }));
    }
    GUARDED.get()
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::catch_panic;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        assert_eq!(catch_panic(|| 3), Ok(3));
        let zero = std::hint::black_box(0);
        let reason = catch_panic(|| 1 / zero).expect_err("a division by zero");
        assert!(reason.contains("divide by zero"), "{reason}");
    }
}
