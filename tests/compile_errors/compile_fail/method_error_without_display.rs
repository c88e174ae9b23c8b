use byname::MethodError;

#[derive(MethodError)]
enum Bank {
    #[code(not_found)]
    NoSuchAccount,
}

fn main() {}
