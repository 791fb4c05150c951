from sciembed_train.diagnostics.finding import Finding, render


def test_findings_stand_in_their_sections_and_what_is_bad_comes_last():
    findings = [
        Finding("disk", "runs", "ok", "writable"),
        Finding("package", "torch", "bad", "not installed"),
        Finding("package", "numpy", "ok", "2.0"),
    ]
    assert render(findings).splitlines() == [
        "Packages that training needs",
        "  !! torch  not installed",
        "  ok numpy  2.0",
        "",
        "Where runs go",
        "  ok runs  writable",
        "",
        "To repair first: torch.",
    ]
    assert render(findings[:1]).endswith("Nothing stands in the way.")
