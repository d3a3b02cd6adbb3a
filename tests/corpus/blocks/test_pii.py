"""Planted personal data is found; what only looks like it in medical, legal and financial text stays."""

from __future__ import annotations

import random

import pytest
from blocks import text_after
from pydantic import ValidationError

from cpt.corpus.blocks.pii import PII

pytest.importorskip("phonenumbers")
pytest.importorskip("stdnum")

PLANTED = {
    "email": [
        "jane.o'neil+lab@mail.hospital.org",
        "a_b@x-y.co.uk",
        "USER@EXAMPLE.COM",
        "first@last.museum",
    ],
    "ip": ["8.8.8.248", "203.0.114.7", "151.101.1.69", "2001:4860:4860::8888", "2a00:1450:4001:81b::200e"],
    "phone": [
        "(617) 253-1000",
        "617-253-1000",
        "617.253.1000",
        "+1 617 253 1000",
        "1-800-829-1040",
        "+44 20 7946 0958",
        "+49 30 901820",
        "+81 3-3580-3311",
    ],
    "ssn": ["536-22-8726", "219-45-0983"],
    "iban": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "FR14 2004 1010 0505 0001 3M02 606"],
    "card": [
        "4111 1111 1111 1111",
        "5500-0055-5555-5559",
        "378282246310005",
        "6011111111111117",
        "3714 496353 98431",
    ],
}
SENTENCES = [
    "Please send the report to {} before the next visit.",
    "The witness gave {}, and nothing else was on file.",
    "Contact: {}\nThe form was signed on 12/03/2009.",
    "({})",
    "It was {}.",
]
STAYS = [
    # statutes and opinions
    "17 U.S.C. 107(a)(1); 42 CFR 482.12; 123 F.3d 456, 789-801 (1st Cir. 1999); No. 08-1330-cv(L)",
    "Pub. L. 111-148, 124 Stat. 119-1025 (2010); 75 Fed. Reg. 12345-12367; 48 CFR 252.227-7015",
    "Section 4.1.2.3 and section 12.110.3.4 apply; see § 201.110.3.4 and Rule 10.110.3.2.",
    "4.1.2.3 Termination. 10.12.13.14 Notices. Version 7.4.7.2 runs on v. 4.0.110.0.",
    "Docket No. 617-253-1000; Case 617-253-1001; Patent 6,172,531; Account 617 253 1000; Claim 617.253.1000",
    # medicine
    "100-200 mg every 4-6 hours, 0.5-1.5 mL/kg, 120/80 mmHg, 37.5-38.2 °C, 2.5 x 10^9/L, 1000-2000 IU",
    "PMID 12345678, doi:10.1056/NEJMoa0123456789, NCT01234567, ISBN 978-0-306-40615-7, 0-306-40615-2",
    "ICD-10 S72.001A, CPT 99213-99215, NDC 0074-3799-13, CAS 50-78-2, HP:0001250, OID 1.2.840.10008.5.1.4",
    # finance
    "$1,234,567.89 of 1,234,567,890 shares, 12.5-13.25 percent, 2004-2005, 1996 2000 2004, 3 555 4567 8901",
    "CUSIP 037833100, ISIN US0378331005, account 123456789, loan 4111111111111112, at 5@3.50 each",
    # dates, times, addresses of machines at home, code
    "12/31/2009, 2009-10-15, 10-15-2009, 15.10.2009, 12:30:45, 2009-10-15T12:30:45, 20091015123045",
    "10.0.0.1, 192.168.1.1 and 127.0.0.1 are private; std::vector::at, 01:23:45:67:89:ab, ::1",
    "000-12-3456, 666-12-3456, 900-12-3456, 123-00-4567, 123-45-0000, 02139-4307, 12-3456789",
    "a@b, @name, x @ y, array[@1], 3.14159265358979, 1234567890123456789",
]


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_data_is_replaced_and_its_surroundings_stay(kind: str) -> None:
    for value in PLANTED[kind]:
        for sentence in SENTENCES:
            assert text_after(PII(), sentence.format(value)) == sentence.format(f"[{kind.upper()}]")


@pytest.mark.parametrize("text", STAYS)
def test_what_looks_like_it_stays(text: str) -> None:
    assert text_after(PII(), text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Phone: 6172531000", "Phone: [PHONE]"),
        ("Tel. No. 617-253-1000, fax 617.253-1001", "Tel. No. [PHONE], fax [PHONE]"),
        ("Order 6172531000", "Order 6172531000"),
        ("SSN 536228726, SSN: 536 22 8726", "SSN [SSN], SSN: [SSN]"),
        ("Order 536228726 of 536 22 8726", "Order 536228726 of 536 22 8726"),
        ("IP address 8.8.4.4", "IP address [IP]"),
        ("paragraph 8.8.4.4", "paragraph 8.8.4.4"),
        ("IBAN GB82 WEST 1234 5698 7654 32 OF THE BANK", "IBAN [IBAN] OF THE BANK"),
    ],
)
def test_what_is_named_beside_a_number_counts(text: str, expected: str) -> None:
    assert text_after(PII(), text) == expected


def test_a_wrong_checksum_stays() -> None:
    rng = random.Random(0)
    for value in [*PLANTED["iban"], *PLANTED["card"]]:
        at = rng.choice([at for at, character in enumerate(value) if at > 3 and character.isdigit()])
        wrong = f"{value[:at]}{(int(value[at]) + 1) % 10}{value[at + 1 :]}"
        assert text_after(PII(find=["iban", "card"]), wrong) == wrong


def test_settings() -> None:
    text = "Write to a.b@example.org or call 020 7946 0958, or 617-253-1000."
    assert text_after(PII(), text) == "Write to [EMAIL] or call 020 7946 0958, or [PHONE]."
    assert text_after(PII(find=["phone"]), text) == text.replace("617-253-1000", "[PHONE]")
    assert text_after(PII(find=["phone"], regions=["GB"]), text) == text.replace("020 7946 0958", "[PHONE]")
    assert text_after(PII(find=["phone"], regions=[]), text) == text
    assert text_after(PII(find=["phone"], regions=[]), "+44 20 7946 0958") == "[PHONE]"
    assert text_after(PII(find=["email"], replacement=r"<\1 {kind}>"), text).startswith(
        r"Write to <\1 EMAIL> or"
    )
    for wrong in ({"find": []}, {"find": ["name"]}, {"regions": ["us"]}):
        with pytest.raises(ValidationError):
            PII.model_validate(wrong)
