// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/**
 * @title Where each field of a record lies (record format v1)
 * @notice A record is packed, without padding, big endian. It is the immutable arguments of its asset's clone, so the
 * code of the asset's account is the record.
 *
 * ```
 * offset  size   field
 * 0       1      schema, 0x01
 * 1       16     id: the bytes of the UUID
 * 17      32     commitment: sha256("polyshare/content/1" ‖ salt32 ‖ root), where root is the content root or, for an
 *                asset whose content does not exist yet (Model, Translation), the root of the job request
 * 49      32     metadata root
 * 81      1      links: bit 7, supersedes is present; bits 0 to 6, the number of parents (0 to 64)
 * 82      20     supersedes: the contract of the version before; only with bit 7
 * then    20×n   parents: contracts of what this was made from, in order
 * then    k      the kind's own fields; k is fixed by the kind
 * ```
 *
 * An address is the CREATE2 of its whole record, so links make lineage a chain of hashes. The contracts do not look
 * whether a link leads to a registered asset: who verifies does so, by recomputing the parent's address.
 */
library RecordLayout {
    uint8 internal constant SCHEMA = 1;

    uint256 internal constant ID = 1;
    uint256 internal constant COMMITMENT = 17;
    uint256 internal constant METADATA_ROOT = 49;
    uint256 internal constant LINKS = 81;
    uint256 internal constant FIRST_LINK = 82;

    uint256 internal constant SUPERSEDES_BIT = 0x80;
    uint256 internal constant PARENTS_MASK = 0x7f;
    uint256 internal constant MAX_PARENTS = 64;

    /// @dev The longest own fields for which a record with all its links is at most 4096 bytes.
    uint256 internal constant MAX_OWN_LENGTH = 4096 - FIRST_LINK - 20 * (1 + MAX_PARENTS);
}
