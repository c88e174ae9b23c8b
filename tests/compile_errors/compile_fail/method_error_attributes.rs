use byname::MethodError;

#[derive(MethodError)]
#[method_error(massage = false)]
#[code("not_found")]
enum Bank {
    #[code(notfound)]
    NoSuchAccount,
    #[code]
    Overdrawn,
    #[code(Code::Aborted)]
    Busy,
    #[code(aborted, internal)]
    Both,
    #[code(teapot)]
    #[method_error(message = true)]
    Teapot,
    #[code(aborted)]
    #[code(internal)]
    Twice,
    #[method_error(crate = byname)]
    Elsewhere(#[code(aborted)] u8),
}

#[derive(MethodError)]
union Either {
    a: u8,
    b: u8,
}

impl std::fmt::Display for Bank {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

fn main() {
    fn is_one<E: MethodError>() {}
    is_one::<Bank>();
}
