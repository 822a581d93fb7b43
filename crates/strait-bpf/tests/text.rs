//! What is written is read back, and nothing that is read is taken for what it is not.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use proptest::prelude::*;
use strait_bpf::{Action, ByteOrder, Decision, Insn, Line, Program, Token};
use strait_testkit::generate::{self, Rng};

/// A program for a machine of either byte order.
fn program(seed: u64) -> Program {
    let mut rng = Rng::new(seed);
    let insns: Vec<Insn> = generate::any_program(&mut rng).insns().to_vec();
    let order = if rng.one_in(2) { ByteOrder::Little } else { ByteOrder::Big };
    Program::with_byte_order(insns, order).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_form_is_read_back(seed: u64) {
        let program = program(seed);
        let order = program.byte_order();
        let listing = program.listing(None).to_string();
        prop_assert_eq!(&Program::assemble_for(&listing, order).unwrap(), &program, "{}", listing);
        prop_assert_eq!(&Program::from_bytes(&program.to_bytes()).unwrap(), &program);
        prop_assert_eq!(&Program::from_bytes_in(&program.to_bytes(), order).unwrap(), &program);
        prop_assert_eq!(&Program::from_hex(&program.to_hex()).unwrap(), &program);
        prop_assert_eq!(&Program::from_array(&program.to_c("filter"), order).unwrap(), &program);
        prop_assert_eq!(&Program::from_array(&program.to_rust("FILTER"), order).unwrap(), &program);
    }

    #[test]
    fn the_other_byte_order_is_named(seed: u64) {
        let program = program(seed);
        let (expected, found) = match program.byte_order() {
            ByteOrder::Little => (ByteOrder::Big, ByteOrder::Little),
            ByteOrder::Big => (ByteOrder::Little, ByteOrder::Big),
        };
        let error = Program::from_bytes_in(&program.to_bytes(), expected).unwrap_err();
        prop_assert_eq!(error, strait_bpf::FileError::ByteOrder { expected, found });
    }

    #[test]
    fn any_bytes_are_a_program_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(program) = Program::from_bytes(&bytes) {
            prop_assert_eq!(program.to_bytes(), bytes);
        }
    }

    #[test]
    fn any_text_is_a_program_or_an_error(text in "(ld|ret|jeq|ja|x:|M\\[|\\[nr\\]|#1|allow|errno\\(|[ ,;\n]|\\PC){0,24}") {
        if let Ok(program) = Program::assemble(&text) {
            let listing = program.listing(None).to_string();
            prop_assert_eq!(Program::assemble(&listing).unwrap(), program);
        }
        let _ = Program::from_hex(&text);
        let _ = Program::from_array(&text, ByteOrder::Little);
    }

    #[test]
    fn the_tokens_of_a_line_are_its_text(seed: u64) {
        let listing = program(seed).listing(None);
        for line in listing.lines() {
            let tokens: String = line.tokens().map(|(_, text)| text).collect();
            prop_assert_eq!(tokens, line.to_string());
        }
    }
}

/// What each piece of a line is, and why the line is there where that can be told.
#[test]
fn pieces_have_kinds_and_lines_have_reasons() {
    let text = "\
     ld [arch]
     jeq #0xc000003e, next, kill
     ld [nr]
     jge #0x40000000, kill, next
     jge #434, kill, next
     jgt #60, kill, next
     jeq #41, next, allow
     ld [arg0.lo]
     jeq #16, kill, next
allow: ret allow
kill: ret kill-process
";
    let program = Program::assemble(text).unwrap();
    let listing = program.listing(None);
    let reason = |line: &Line| {
        let comment = line.tokens().find(|(token, _)| *token == Token::Comment);
        comment.map(|(_, text)| text.trim_start_matches("; ").to_owned()).unwrap_or_default()
    };
    let reasons: Vec<String> = listing.lines().iter().map(reason).collect();
    let wanted = [
        "",
        "x86_64",
        "",
        "x32",
        "from pidfd_open on",
        "after exit",
        "socket",
        "domain of socket",
        "",
        "",
        "",
    ];
    assert_eq!(reasons, wanted, "{listing}");
    let kinds = |index: usize| -> Vec<(Token, &str)> {
        let tokens = listing.lines()[index].tokens();
        tokens.filter(|(token, _)| *token != Token::Space).collect()
    };
    assert_eq!(
        kinds(6),
        [
            (Token::Mnemonic, "jeq"),
            (Token::Constant, "#41"),
            (Token::Label, "next"),
            (Token::Label, "l9"),
            (Token::Comment, "; socket"),
        ]
    );
    assert_eq!(
        kinds(7),
        [
            (Token::Mnemonic, "ld"),
            (Token::Place, "[arg0.lo]"),
            (Token::Comment, "; domain of socket")
        ]
    );
    let allow =
        [(Token::Label, "l9:"), (Token::Mnemonic, "ret"), (Token::Action(Action::Allow), "allow")];
    assert_eq!(kinds(9), allow);
    let last = kinds(10).pop();
    assert_eq!(last, Some((Token::Action(Action::KillProcess), "kill-process")));
}

#[test]
fn real_filters_are_written_and_read_in_every_form() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/filters");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "hex") {
            continue;
        }
        read += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let program = Program::from_hex(&text).unwrap();
        assert_eq!(program.to_hex(), text);
        assert_eq!(
            Program::from_bytes_in(&program.to_bytes(), ByteOrder::Little),
            Ok(program.clone())
        );
        let listing = program.listing(None).to_string();
        assert_eq!(Program::assemble(&listing).unwrap(), program, "{path:?}");
        let pfc = Decision::of(&program).unwrap().to_pfc().unwrap();
        assert!(pfc.contains("if ($arch == 3221225534)"), "{path:?}: {pfc}");
    }
    assert!(read >= 14);
}
