"""When: validity of each certificate, its ends, and how they are written."""

from datetime import UTC, datetime, timedelta, timezone

from limbo_case import Presented, accepted, presented, refused
from limbo_forge import SECOND, ca, generalized_time, leaf, root, utc_time
from pki_workshop import DAY, NOW, YEAR

from fleetroot.pki import ChainRefusal
from fleetroot.pki.der import element

HALF_A_SECOND = timedelta(milliseconds=500)
WHOLE_SECONDS = "accepts: its time is in whole seconds"
ANY_SPELLING = "accepts: it reads either spelling of a year"


def under(*chain: bytes, at: datetime = NOW) -> Presented:
    return presented(
        *chain, anchors=(root(not_before=NOW - YEAR, not_after=NOW + 9 * YEAR),), at=at
    )


@refused(ChainRefusal.EXPIRED)
def leaf_a_second_past_its_end() -> Presented:
    """RFC 5280 §6.1.3 (a)(2): the validity includes the time of the decision."""
    return under(leaf(not_after=NOW - SECOND), ca())


@accepted()
def leaf_in_its_last_second() -> Presented:
    """RFC 5280 §4.1.2.5: notAfter is inclusive."""
    return under(leaf(not_after=NOW), ca())


@accepted()
def leaf_in_its_first_second() -> Presented:
    """RFC 5280 §4.1.2.5: notBefore is inclusive."""
    return under(leaf(not_before=NOW), ca())


@refused(ChainRefusal.NOT_YET_VALID)
def leaf_a_second_early() -> Presented:
    """RFC 5280 §6.1.3 (a)(2): a certificate is not valid before its time."""
    return under(leaf(not_before=NOW + SECOND), ca())


@refused(ChainRefusal.EXPIRED, openssl=WHOLE_SECONDS)
def leaf_half_a_second_past_its_end() -> Presented:
    """RFC 5280 §4.1.2.5: the period ends with the moment that notAfter names."""
    return under(leaf(not_after=NOW), ca(), at=NOW + HALF_A_SECOND)


@refused(ChainRefusal.EXPIRED)
def intermediate_a_second_past_its_end() -> Presented:
    """RFC 5280 §6.1.3 (a)(2): the validity of every certificate of the path counts."""
    return under(leaf(), ca(not_after=NOW - SECOND))


@accepted()
def intermediate_in_its_last_second() -> Presented:
    """RFC 5280 §4.1.2.5: notAfter is inclusive in a CA too."""
    return under(leaf(), ca(not_after=NOW))


@accepted()
def intermediate_in_its_first_second() -> Presented:
    """RFC 5280 §4.1.2.5: notBefore is inclusive in a CA too."""
    return under(leaf(), ca(not_before=NOW))


@refused(ChainRefusal.EXPIRED, openssl=WHOLE_SECONDS)
def intermediate_half_a_second_past_its_end() -> Presented:
    """RFC 5280 §4.1.2.5: a CA's period ends as a leaf's does."""
    return under(leaf(), ca(not_after=NOW), at=NOW + HALF_A_SECOND)


@refused(ChainRefusal.NOT_YET_VALID)
def intermediate_a_second_early() -> Presented:
    """RFC 5280 §6.1.3 (a)(2): a CA's certificate is not valid before its time."""
    return under(leaf(), ca(not_before=NOW + SECOND))


@refused(ChainRefusal.NOT_YET_VALID)
def intermediate_half_a_second_early() -> Presented:
    """RFC 5280 §4.1.2.5: nor half a second before."""
    return under(leaf(), ca(not_before=NOW), at=NOW - HALF_A_SECOND)


@refused(ChainRefusal.EXPIRED)
def upper_of_two_intermediates_expired() -> Presented:
    """RFC 5280 §6.1.3 (a)(2): wherever in the path it stands."""
    return under(leaf(issuer="lower"), ca("lower", "upper"), ca("upper", not_after=NOW - SECOND))


@accepted()
def leaf_that_outlives_its_ca() -> Presented:
    """RFC 5280 §6.1.3 (a)(2): periods need not nest, each has to include the time."""
    return under(leaf(not_after=NOW + 5 * YEAR), ca(not_after=NOW + DAY))


@accepted()
def leaf_older_than_its_ca() -> Presented:
    """RFC 5280 §6.1.3 (a)(2): a CA that was renewed with its key begins after what it signed."""
    return under(leaf(not_before=NOW - 5 * DAY), ca(not_before=NOW - DAY))


@refused(ChainRefusal.EXPIRED)
def leaf_that_ends_before_it_begins() -> Presented:
    """RFC 5280 §4.1.2.5: a period without a moment in it."""
    return under(leaf(not_before=NOW, not_after=NOW - DAY), ca())


@accepted()
def decided_in_another_zone() -> Presented:
    """RFC 5280 §4.1.2.5: the same moment, told in another zone."""
    at = NOW.astimezone(timezone(timedelta(hours=-11)))
    return presented(leaf(not_before=NOW), ca(), anchors=(root(),), at=at.astimezone(UTC))


@accepted()
def no_well_defined_end() -> Presented:
    """RFC 5280 §4.1.2.5: 99991231235959Z says that there is no end."""
    forever = element(0x18, b"99991231235959Z")
    return under(leaf(not_after=forever), ca(not_after=forever))


@accepted()
def end_in_2050_as_generalized_time() -> Presented:
    """RFC 5280 §4.1.2.5: from 2050 on, GeneralizedTime."""
    return under(leaf(not_after=generalized_time(datetime(2050, 1, 1, tzinfo=UTC))), ca())


@accepted()
def end_in_2049_as_utc_time() -> Presented:
    """RFC 5280 §4.1.2.5.1: through 2049, UTCTime."""
    return under(leaf(not_after=utc_time(datetime(2049, 12, 31, 23, 59, 59))), ca())


@accepted()
def beginning_in_1950() -> Presented:
    """RFC 5280 §4.1.2.5.1: a year of 50 is 1950."""
    return under(leaf(not_before=element(0x17, b"500101000000Z")), ca())


@refused(ChainRefusal.MALFORMED, openssl=ANY_SPELLING)
def end_before_2050_as_generalized_time() -> Presented:
    """RFC 5280 §4.1.2.5: through 2049, UTCTime and nothing else."""
    return under(leaf(not_after=generalized_time(NOW + YEAR)), ca())


@refused(ChainRefusal.MALFORMED, openssl=ANY_SPELLING)
def beginning_of_a_ca_before_2050_as_generalized_time() -> Presented:
    """RFC 5280 §4.1.2.5: so in a CA."""
    return under(leaf(), ca(not_before=generalized_time(NOW - DAY)))


@refused(ChainRefusal.MALFORMED)
def end_without_seconds() -> Presented:
    """RFC 5280 §4.1.2.5.1: UTCTime has seconds."""
    return under(leaf(not_after=element(0x17, b"3106151200Z")), ca())


@refused(ChainRefusal.MALFORMED)
def end_with_a_zone() -> Presented:
    """RFC 5280 §4.1.2.5.1: UTCTime is in UTC."""
    return under(leaf(not_after=element(0x17, b"310615120000+0100")), ca())


@refused(ChainRefusal.MALFORMED)
def end_with_a_fraction() -> Presented:
    """RFC 5280 §4.1.2.5.2: GeneralizedTime has no fractions of a second."""
    return under(leaf(not_after=element(0x18, b"20510615120000.5Z")), ca())


@refused(ChainRefusal.MALFORMED)
def end_on_the_30th_of_february() -> Presented:
    """RFC 5280 §4.1.2.5.1: a date that does not exist."""
    return under(leaf(not_after=element(0x17, b"310230120000Z")), ca())


@refused(ChainRefusal.MALFORMED, openssl="accepts: it counts from a year 0")
def beginning_in_the_year_0() -> Presented:
    """RFC 5280 §4.1.2.5.2: the library loads it and cannot tell it."""
    return under(leaf(not_before=element(0x18, b"00000101000000Z")), ca())


@refused(ChainRefusal.MALFORMED, openssl="accepts: it counts from a year 0")
def beginning_of_a_ca_in_the_year_0() -> Presented:
    """RFC 5280 §4.1.2.5.2: so in a CA."""
    return under(leaf(), ca(not_before=element(0x18, b"00000101000000Z")))
