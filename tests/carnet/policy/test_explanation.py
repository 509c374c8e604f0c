from carnet.decision import Gate, Outcome
from carnet.limits import REASONS_MAX, TEXT_CHARS_MAX
from carnet.policy import evaluate
from carnet.policy.explanation import lines, obligations, reason_views, reasons
from tests.carnet.policy.policies import ALLOW_ALL, facts, policy, rule

DENIAL = rule(
    "id: no-5d002, effect: deny, when: {export.number: 5D002}, unless: {label.published: 'true'}, "
    "reason: controlled, remedy: get a licence, cite: [15 CFR 740.17]"
)


def test_a_denial_names_rule_facts_source_remedy_and_citation():
    decision = evaluate(policy(ALLOW_ALL, DENIAL), Gate.OFFER, facts(export__number="5D002", label__published="false"))

    assert lines(decision) == [
        f"deny at offer by policy {decision.policy}",
        "  no-5d002 (deny): controlled",
        "    read export.number is '5D002', declared by waybill (so it is '5D002')",
        "    read label.published is 'false', declared by waybill (unless not so: it is 'true')",
        "    remedy: get a licence",
        "    cites: 15 CFR 740.17",
        "  all (allow): tests",
    ]


def test_a_rule_that_did_not_apply_says_which_condition_failed():
    decision = evaluate(policy(ALLOW_ALL, DENIAL), Gate.OFFER, facts(export__number="EAR99"))

    assert (
        lines(decision)[2]
        == "  no-5d002 (deny) did not apply: export.number is 'EAR99', declared by waybill, the rule asks that it is '5D002'"
    )


def test_an_exempt_rule_says_why_it_is():
    decision = evaluate(policy(ALLOW_ALL, DENIAL), Gate.OFFER, facts(export__number="5D002", label__published="true"))

    assert lines(decision)[2] == "  no-5d002 (deny) did not apply: exempt, for label.published is 'true', declared by waybill"


def test_a_missing_fact_is_named_with_what_to_do():
    (view,) = reason_views(
        evaluate(policy(ALLOW_ALL, DENIAL), Gate.OFFER, facts(artifact__kind="image", label__published="false"))
    )

    assert view.outcome == "hold"
    assert view.text.startswith("FACT-MISSING: export.number is not known")
    assert view.remedy == "export.number comes from the sender, with the push"


def test_the_protocol_is_shown_the_rules_that_decided_and_no_other():
    decision = evaluate(
        policy(ALLOW_ALL, DENIAL, rule("id: h, effect: hold")), Gate.OFFER, facts(export__number="5D002", label__published="no")
    )

    assert [(view.rule, view.outcome, view.cite) for view in reason_views(decision)] == [("no-5d002", "deny", ("15 CFR 740.17",))]


def test_the_signed_decision_has_every_rule_with_a_say_and_the_facts_it_read():
    decision = evaluate(
        policy(ALLOW_ALL, DENIAL, rule("id: h, effect: hold")), Gate.OFFER, facts(export__number="5D002", label__published="no")
    )

    signed = reasons(decision)

    assert [(reason.rule, reason.outcome) for reason in signed] == [
        ("no-5d002", Outcome.DENY),
        ("all", Outcome.ALLOW),
        ("h", Outcome.HOLD),
    ]
    assert signed[0].inputs == {"export.number": "5D002", "label.published": "no"}


def test_approvals_come_first_among_the_obligations():
    decision = evaluate(
        policy(
            ALLOW_ALL,
            rule("effect: hold, approvals: [{role: legal, count: 2}], obligations: [{kind: retain, parameters: {years: 10}}]"),
        ),
        Gate.OFFER,
        {},
    )

    assert [(each.kind, each.parameters) for each in obligations(decision)] == [
        ("approvals", {"legal": 2}),
        ("retain", {"years": 10}),
    ]
    assert obligations(decision, {"legal": 3, "security": 1})[0].parameters == {"legal": 3, "security": 1}
    assert lines(decision)[-2:] == ["  approvals: 2 of role legal", "  obligation: retain years=10"]


def test_hostile_values_are_escaped():
    decision = evaluate(policy(ALLOW_ALL, DENIAL), Gate.OFFER, facts(export__number="\x1b[2J\n" + "x" * 5_000))

    assert all(line.isprintable() and len(line) < 400 for line in lines(decision))


def test_reasons_stay_within_what_a_statement_holds():
    many = [rule(f"id: d{n}, effect: deny, when: {{label.{'k' * 50}{n}: x}}") for n in range(REASONS_MAX + 5)]
    decision = evaluate(policy(ALLOW_ALL, *many), Gate.OFFER, {})

    assert len(reasons(decision)) == len(reason_views(decision)) == REASONS_MAX
    assert all(len(view.text) <= TEXT_CHARS_MAX for view in reason_views(decision))
